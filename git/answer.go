package git

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Answer reads the content of a 200 to a Request as it streams by, and says at its end
// whether it is one. It is used by one goroutine.
type Answer struct {
	request *Request
	next    func(*Answer, packet, []byte) // what the next packet is to
	pack    *packCheck                    // from the first byte of a pack on

	head []byte // of the next packet, as far as it is there
	left int    // bytes of data that the packet under way still has
	line []byte // what its data begins with
	band bool   // its data goes to the pack

	raw     bool // v0, v1: what comes is the pack, in no packets
	acking  bool // v0, v1: the pack may begin
	acked   bool // v0, v1: something was answered
	ready   bool // v2: the server has said that a pack follows
	ended   bool
	section int // v2: the latest, by its place in sections
	why     string
	err     error
}

// maxLine is how much is kept of a line. Those that mean anything are shorter.
const maxLine = 256

// Answer returns what reads the response to r, which must not be of the kind Other.
func (r *Request) Answer() *Answer {
	a := &Answer{request: r}
	switch {
	case r.Kind == Refs:
		a.next = (*Answer).refs
	case r.version == 2:
		a.next = (*Answer).sectionStart
	case r.deepens:
		a.next = (*Answer).shallows
	default:
		a.next, a.acking = (*Answer).acks, true
	}
	return a
}

// Write follows with p. It never fails.
func (a *Answer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && a.why == "" && a.err == nil {
		p = p[a.take(p):]
	}
	return n, nil
}

// Done judges the answer at its end. With an error it is cut short or damaged, and who
// reads it should know. A why says in a word for what else it is not to be kept: it
// tells of an error, or is not understood.
func (a *Answer) Done() (why string, err error) {
	switch {
	case a.err != nil || a.why != "":
	case a.left > 0 || len(a.head) > 0:
		a.err = fmt.Errorf("in the middle of a pkt-line: %w", io.ErrUnexpectedEOF)
	case a.raw:
		a.err = a.pack.finish()
	case a.ended:
	case a.request.version == 2 || a.request.packs || a.pack != nil:
		a.err = fmt.Errorf("without its end: %w", io.ErrUnexpectedEOF)
	case !a.acked:
		a.giveUp("not-understood") // a server that does not speak multi_ack may say nothing
	}
	if a.err != nil {
		return "", fmt.Errorf("the answer of git-upload-pack is not whole: %w", a.err)
	}
	return a.why, nil
}

// take follows with a part of p and returns how long that is.
func (a *Answer) take(p []byte) int {
	switch {
	case a.raw:
		a.pack.add(p)
		return len(p)
	case a.left == 0:
		n := copy(a.headSpace(), p)
		a.head = a.head[:len(a.head)+n]
		if len(a.head) == 4 {
			a.start()
		}
		return n
	}
	n := min(a.left, len(p))
	a.data(p[:n])
	if a.left -= n; a.left == 0 {
		a.end()
	}
	return n
}

func (a *Answer) headSpace() []byte {
	if a.head == nil {
		a.head = make([]byte, 0, 4)
	}
	return a.head[len(a.head):4]
}

// start begins a packet.
func (a *Answer) start() {
	head := [4]byte(a.head)
	a.head = a.head[:0]
	if a.ended {
		a.giveUp("more-than-expected")
		return
	}
	if a.acking && a.acked && !a.request.sideband && string(head[:]) == "PACK" {
		// Without sidebands the pack is no longer in packets.
		a.raw = true
		a.startPack()
		a.pack.add(head[:])
		return
	}
	kind, n, ok := packetLength(head)
	switch {
	case !ok || kind == endPacket:
		a.giveUp("not-understood")
	case kind != dataPacket:
		a.next(a, kind, nil)
	default:
		a.left, a.line, a.band = n, a.line[:0], false
	}
}

// data follows with data of the packet under way.
func (a *Answer) data(p []byte) {
	if a.band {
		a.pack.add(p)
		return
	}
	first := len(a.line) == 0
	if first && a.pack == nil && a.acking && a.acked && a.request.sideband && p[0] <= 3 {
		a.startPack() // versions 0 and 1 do not announce it
		a.next = (*Answer).inPack
	}
	a.line = append(a.line, p[:min(len(p), maxLine-len(a.line))]...)
	if first && a.pack != nil && a.line[0] == 1 {
		a.band = true
		a.pack.add(p[1:])
	}
}

// end ends a packet with data.
func (a *Answer) end() {
	line := a.line
	if !a.band && (a.pack != nil || a.request.all) {
		switch band := line[0]; {
		case band == 2:
			return // progress
		case band == 3:
			a.giveUp("error")
			return
		case a.pack == nil && band == 1:
			line = line[1:]
		default:
			a.giveUp("not-understood")
			return
		}
	}
	if a.band {
		return
	}
	if bytes.HasPrefix(line, []byte("ERR ")) {
		a.giveUp("error")
		return
	}
	a.next(a, dataPacket, bytes.TrimSuffix(line, []byte("\n")))
}

// giveUp ends the reading of an answer that is not to be kept.
func (a *Answer) giveUp(why string) { a.why = why }

// finish ends an answer whose last packet has come.
func (a *Answer) finish() {
	a.ended = true
	switch {
	case a.pack != nil:
		a.err = a.pack.finish()
	case a.request.packs:
		a.giveUp("no-pack")
	}
}

func (a *Answer) startPack() { a.pack = newPackCheck(a.request.sha256) }

// inPack is to what comes after a pack's first packet. Data never gets here.
func (a *Answer) inPack(kind packet, _ []byte) {
	if kind == flushPacket {
		a.finish()
		return
	}
	a.giveUp("not-understood")
}

// refs is to the answer to ls-refs.
func (a *Answer) refs(kind packet, _ []byte) {
	switch kind {
	case flushPacket:
		a.finish()
	case delimPacket:
		a.giveUp("not-understood")
	}
}

// sections are those of an answer of version 2, in their order, that a Request of the
// kind Fetch may get.
var sections = [...]string{"", "acknowledgments", "shallow-info", "packfile"}

// sectionStart is to the line that begins a section.
func (a *Answer) sectionStart(kind packet, line []byte) {
	for i := a.section + 1; kind == dataPacket && i < len(sections); i++ {
		if string(line) != sections[i] {
			continue
		}
		a.section, a.next = i, (*Answer).inSection
		if sections[i] == "packfile" {
			a.startPack()
			a.next = (*Answer).inPack
		}
		return
	}
	a.giveUp("not-understood")
}

// inSection is to the lines of a section that is no pack.
func (a *Answer) inSection(kind packet, line []byte) {
	switch {
	case kind == delimPacket && (sections[a.section] != "acknowledgments" || a.ready):
		a.next = (*Answer).sectionStart
	case kind == flushPacket && sections[a.section] == "acknowledgments" && !a.ready:
		a.finish() // the negotiation goes on
	case kind != dataPacket:
		a.giveUp("not-understood")
	case sections[a.section] == "shallow-info":
		a.wantsShallow(line)
	case string(line) == "ready":
		a.ready = true
	case string(line) != "NAK" && !bytes.HasPrefix(line, []byte("ACK ")):
		a.giveUp("not-understood")
	}
}

func (a *Answer) wantsShallow(line []byte) {
	if name, _, _ := strings.Cut(string(line), " "); name != "shallow" && name != "unshallow" {
		a.giveUp("not-understood")
	}
}

// shallows is to the lines with which versions 0 and 1 answer a depth.
func (a *Answer) shallows(kind packet, line []byte) {
	switch kind {
	case flushPacket:
		a.next, a.acked, a.acking = (*Answer).acks, true, true
	case dataPacket:
		a.wantsShallow(line)
	default:
		a.giveUp("not-understood")
	}
}

// acks is to what versions 0 and 1 send before the pack, and to its first packet.
func (a *Answer) acks(kind packet, line []byte) {
	switch {
	case kind == dataPacket && (string(line) == "NAK" || bytes.HasPrefix(line, []byte("ACK "))):
		a.acked = true
	default:
		a.giveUp("not-understood")
	}
}
