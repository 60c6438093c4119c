package mitm

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net"
)

// framing follows the requests of an HTTP/1 connection while their bytes go by to
// net/http, and tells where one is that two readers could take for two different
// ones (RFC 9112, Sections 2.2, 5 and 6; Section 11.2: request smuggling). net/http
// is lenient with these, and by the time that it has a request nothing shows it:
// both Content-Length and Transfer-Encoding, a length given twice, folded lines,
// lines that end without CR, and Transfer-Encoding over HTTP/1.0.
//
// What else is wrong is net/http's to refuse. Where the two disagree about where a
// request ends, it would be because net/http has refused it already.
type framing struct {
	at       framingPlace
	response bool // one response is followed, its interim ones included
	bodiless bool // it is to HEAD

	// Of the request that is being read.
	connect, upgrade bool
	http10           bool
	lengths, codings int
	body             int64 // what is left of it, or of its chunk
	inContent        bool  // the head of a response is over

	// Of the line.
	lineBytes int      // of the line so far, its end apart
	first     [12]byte // of the first line: a method, or version and status
	last      [8]byte  // of the first line
	name      [18]byte // of a field, in lower case: as long as the longest that counts
	nameBytes int
	named     bool // the colon has come
	value     [32]byte
	valueUsed int
	cr        bool // the last byte was CR
}

// framingPlace is what the next byte belongs to.
type framingPlace uint8

const (
	inRequestLine framingPlace = iota
	inFields
	inBody
	inChunkSize
	inChunkExtension
	inChunk
	inChunkEnd
	inTrailers
	// unclear: behind a CONNECT or an Upgrade, what follows is of this protocol or of
	// another, as the answer will say. Behind the head of a response it is all that comes.
	unclear
	// ended: the response is over.
	ended
	// spoiled: nothing more is read.
	spoiled
)

var (
	errFramingEnd     = errors.New("a line does not end in CR LF")
	errFramingNUL     = errors.New("a line holds a NUL")
	errFramingSpace   = errors.New("a space in the name of a field")
	errFramingFold    = errors.New("a field is folded over several lines")
	errFramingTwo     = errors.New("both Content-Length and Transfer-Encoding, or one of them twice")
	errFramingLength  = errors.New("Content-Length is no number of bytes")
	errFramingCoding  = errors.New("Transfer-Encoding over HTTP/1.0")
	errFramingConnect = errors.New("CONNECT with a body")
	errFramingTrailer = errors.New("a trailer says how long the body is")
	errFramingChunk   = errors.New("a chunk does not begin with its size or is not as long")
)

// follow looks at the next bytes and returns how many of them may go on: all, those
// up to where it becomes unclear whose the rest is, or those before the error.
func (f *framing) follow(b []byte) (n int, err error) {
	for n < len(b) && f.at < unclear {
		if f.at == inBody || f.at == inChunk {
			some := int(min(f.body, int64(len(b)-n)))
			n += some
			if f.body -= int64(some); f.body == 0 {
				f.bodyEnds()
			}
			continue
		}
		if err := f.next(b[n]); err != nil {
			f.at = spoiled
			return n, err
		}
		n++
	}
	return n, nil
}

func (f *framing) bodyEnds() {
	switch {
	case f.at == inChunk:
		f.at = inChunkEnd
	case f.response:
		f.at = ended
	case f.connect || f.upgrade:
		*f = framing{at: unclear}
	default:
		*f = framing{}
	}
}

// next takes one byte that is not of a body.
func (f *framing) next(c byte) error {
	switch f.at {
	case inChunkSize, inChunkExtension, inChunkEnd:
		return f.chunk(c)
	}
	switch {
	case c == '\n' && !f.cr, c != '\n' && f.cr:
		return errFramingEnd
	case c == 0:
		return errFramingNUL
	case c == '\r':
		f.cr = true
		return nil
	case c != '\n':
		return f.inLine(c)
	}
	err := f.lineEnds()
	f.cr, f.lineBytes, f.nameBytes, f.named, f.valueUsed = false, 0, 0, false, 0
	return err
}

// inLine takes a byte of a line.
func (f *framing) inLine(c byte) error {
	f.lineBytes++
	if f.at == inRequestLine {
		if f.response && f.lineBytes == 10 && c == ' ' {
			f.lineBytes-- // net/http takes any number of spaces before the status
			return nil
		}
		if f.lineBytes <= len(f.first) {
			f.first[f.lineBytes-1] = c
		}
		copy(f.last[:], f.last[1:])
		f.last[len(f.last)-1] = c
		return nil
	}
	switch {
	case f.lineBytes == 1 && (c == ' ' || c == '\t'):
		return errFramingFold
	case f.named:
		if f.valueUsed == 0 && (c == ' ' || c == '\t') {
			return nil
		}
		if f.valueUsed < len(f.value) {
			f.value[f.valueUsed] = c
		}
		f.valueUsed++
	case c == ':':
		f.named = true
	case c == ' ', c == '\t':
		return errFramingSpace // before the colon, or there is none
	default:
		if f.nameBytes < len(f.name) {
			f.name[f.nameBytes] = lowered(c)
		}
		f.nameBytes++
	}
	return nil
}

func lowered(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// lineEnds takes the end of a line.
func (f *framing) lineEnds() error {
	switch {
	case f.at == inRequestLine:
		f.connect = !f.response && string(f.first[:8]) == "CONNECT "
		version := f.last[:]
		if f.response {
			version = f.first[:8]
		}
		f.http10 = string(version) == "HTTP/1.0"
		f.at = inFields
		return nil
	case f.lineBytes > 0:
		return f.field()
	case f.at == inTrailers:
		f.at = inBody
		f.bodyEnds()
		return nil
	}
	return f.headEnds()
}

// field takes a field that is complete.
func (f *framing) field() error {
	if f.nameBytes > len(f.name) {
		return nil
	}
	switch name := string(f.name[:f.nameBytes]); name {
	case "upgrade":
		f.upgrade = true
	case "content-length", "transfer-encoding":
		if f.at == inTrailers {
			return errFramingTrailer
		}
		if name == "content-length" {
			f.lengths++
			if !f.length() {
				return errFramingLength
			}
		} else {
			f.codings++
		}
		if f.lengths+f.codings > 1 {
			return errFramingTwo
		}
		if f.codings > 0 && f.http10 {
			return errFramingCoding
		}
	}
	return nil
}

// length reads the value of Content-Length.
func (f *framing) length() bool {
	if f.valueUsed > len(f.value) {
		return false
	}
	f.body = 0
	digits := bytes.TrimRight(f.value[:f.valueUsed], " \t")
	for _, c := range digits {
		if c < '0' || c > '9' || f.body > (math.MaxInt64-9)/10 {
			return false
		}
		f.body = f.body*10 + int64(c-'0')
	}
	return len(digits) > 0
}

// headEnds takes the end of a request's head.
func (f *framing) headEnds() error {
	switch {
	case f.response && f.first[9] == '1' && string(f.first[9:]) != "101":
		*f = framing{response: true, bodiless: f.bodiless} // the next follows
	case f.response:
		f.contentBegins()
	case f.connect && (f.body > 0 || f.codings > 0):
		return errFramingConnect
	case f.codings > 0: // chunked, or net/http answers 501
		f.at = inChunkSize
	case f.body > 0:
		f.at = inBody
	default:
		f.at = inBody
		f.bodyEnds()
	}
	return nil
}

// contentBegins takes the end of a response's head (RFC 9112, Section 6.3).
func (f *framing) contentBegins() {
	f.inContent = true
	switch status := string(f.first[9:]); {
	case status == "101":
		f.at = unclear
	case f.bodiless, status == "204", status == "304", f.codings == 0 && f.lengths > 0 && f.body == 0:
		f.at = ended
	case f.codings > 0: // chunked, or net/http refuses it
		f.body, f.at = 0, inChunkSize
	case f.lengths > 0:
		f.at = inBody
	default:
		f.at = unclear
	}
}

// chunk takes a byte of the line before a chunk or of the end behind it. net/http
// is as strict here; what it will refuse is not followed any further.
func (f *framing) chunk(c byte) error {
	switch {
	case c == '\n' && f.cr:
		f.cr = false
		return f.chunkLineEnds()
	case c == '\n', f.cr:
		return errFramingChunk
	case c == '\r':
		f.cr = true
	case f.at == inChunkEnd:
		return errFramingChunk
	case f.at == inChunkExtension:
	case c == ';', c == ' ', c == '\t':
		f.at = inChunkExtension
	default:
		digit := bytes.IndexByte([]byte("0123456789abcdef"), lowered(c))
		if digit < 0 || f.body > math.MaxInt64>>4 {
			return errFramingChunk
		}
		f.body = f.body<<4 | int64(digit)
		f.lineBytes++
	}
	return nil
}

func (f *framing) chunkLineEnds() error {
	digits := f.lineBytes
	f.lineBytes = 0
	switch {
	case f.at == inChunkEnd:
		f.at = inChunkSize
	case digits == 0:
		return errFramingChunk
	case f.body == 0:
		f.at = inTrailers
	default:
		f.at = inChunk
	}
	return nil
}

// framedReader is what net/http reads an HTTP/1 connection through. A request that
// two readers could take for different ones it cannot read either: what comes in
// its place is a byte for which net/http answers 400 and closes.
type framedReader struct {
	framing
	early []byte // were read while it was unclear whose they are
	held  []byte // come before what is read
}

// What net/http refuses wherever it comes: a byte that neither a request line nor a
// field may hold, and a line that is no field; and one that no chunk's size may hold nor
// its end be, in a line without CR, which no extension may either.
const (
	spoilHead  = "\x00\r\n\x00\r\n\r\n"
	spoilChunk = "\x00\n"
)

// read reads into p. refused is called once, if a request is refused.
func (f *framedReader) read(p []byte, from func([]byte) (int, error), refused func(error)) (int, error) {
	if len(f.held) == 0 && f.at == spoiled {
		return 0, io.EOF
	}
	var n int
	var err error
	if n = copy(p, f.held); n > 0 {
		f.held = f.held[n:]
	} else if n, err = from(p); n == 0 {
		return n, err
	}
	switch {
	case f.at == spoiled:
		return n, nil // what spoils it
	case f.at == unclear && len(p) == 1:
		// net/http's look, while it answers, whether the client goes away.
		f.early = append(f.early, p[0])
		return n, err
	case f.at == unclear: // net/http reads on, so the answer was that it stays HTTP
		f.framing = framing{}
		_, broken := f.follow(f.early)
		f.early = nil
		if broken != nil {
			refused(broken)
			return f.spoil(p, 0, broken), nil
		}
	}
	good, broken := f.follow(p[:n])
	if broken != nil {
		refused(broken)
		return f.spoil(p, good, broken), nil
	}
	if good < n {
		f.held = append(bytes.Clone(p[good:n]), f.held...)
		err = nil // it comes again, behind what is held
	}
	return good, err
}

// spoil puts what net/http refuses behind the good bytes in p.
func (f *framedReader) spoil(p []byte, good int, why error) int {
	with := spoilHead
	if why == errFramingChunk {
		with = spoilChunk
	}
	n := copy(p[good:], with)
	f.held = []byte(with[n:])
	return good + n
}

// framed begins to follow the requests of a connection that an http.Server has got,
// unless they are of HTTP/2.
func framed(c net.Conn) {
	switch c := c.(type) {
	case *clientConn:
		c.framed = new(framedReader)
	case *openedConn:
		c.framed = new(framedReader)
	}
}

// unframed ends that, for a connection that is no longer one of HTTP/1.
func unframed(c net.Conn) {
	switch c := c.(type) {
	case *clientConn:
		c.replay = append(c.framed.left(), c.replay...)
		c.framed = nil
	case *openedConn:
		c.held = append(c.framed.left(), c.held...)
		c.framed = nil
	}
}

// left is what was read and not yet given on.
func (f *framedReader) left() []byte {
	if f == nil {
		return nil
	}
	return f.held
}

// refuseFraming tells of a request that net/http will answer with 400.
func (c *clientConn) refuseFraming(why error) {
	c.server.metrics.failures.WithLabelValues("bad_request").Inc()
	c.server.options.Logger.Info("request refused", "client", c.remote, "err", why.Error())
}
