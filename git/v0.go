package git

import (
	"cmp"
	"io"
	"slices"
	"strings"
)

// readV0 reads a request of version 0 or 1: wants, of which the first has the
// capabilities, what the client lacks, a flush; then what it has, and done. Over HTTP
// each step of the negotiation repeats all of it.
func (p *requestReader) readV0() error {
	kind, err := p.lines(p.need)
	if err != nil || kind != flushPacket || !p.wanted {
		return cmp.Or(err, errOther)
	}
	p.request.Kind = Fetch
	for {
		kind, line, err := p.next()
		switch {
		case err == io.EOF:
			return nil // a step of the negotiation
		case err != nil:
			return err
		case kind == flushPacket:
			continue
		case kind != dataPacket:
			return errOther
		}
		p.noteLine(line)
		if line == "done" {
			p.request.packs = true
			return p.end()
		}
		name, value, _ := strings.Cut(line, " ")
		if name != "have" || !p.isName(value) {
			return errOther
		}
	}
}

// need reads a line before the first flush.
func (p *requestReader) need(line string) error {
	name, value, has := strings.Cut(line, " ")
	if !has {
		return errOther
	}
	if name != "want" {
		if name == "have" || !p.wanted {
			return errOther
		}
		p.request.deepens = p.request.deepens || strings.HasPrefix(name, "deepen")
		p.noteLine(line)
		return p.valueOf(name, value)
	}
	if !p.wanted {
		object, capabilities, _ := strings.Cut(value, " ")
		if err := p.capabilities(capabilities); err != nil {
			return err
		}
		value = object
		if !p.format && len(object) == 64 {
			// git answers an advertisement of object-format without one of its own.
			p.request.sha256 = true
		}
	}
	p.wanted = true
	p.noteLine("want " + value)
	return p.valueOf(name, value)
}

// capabilities reads those of version 0. Only what changes the answer is noted, and in
// one order.
func (p *requestReader) capabilities(list string) error {
	all := strings.Fields(list)
	all = slices.DeleteFunc(all, func(c string) bool {
		return strings.HasPrefix(c, "agent=") || strings.HasPrefix(c, "session-id=")
	})
	slices.Sort(all)
	for _, c := range all {
		p.noteLine(c)
		name, value, has := strings.Cut(c, "=")
		switch name {
		case "object-format":
			if err := p.objectFormat(value); err != nil {
				return err
			}
			continue
		case "side-band", "side-band-64k":
			p.request.sideband = true
		case "multi_ack", "multi_ack_detailed", "no-done", "thin-pack", "ofs-delta", "no-progress", "include-tag",
			"shallow", "deepen-since", "deepen-not", "deepen-relative", "filter",
			"allow-tip-sha1-in-want", "allow-reachable-sha1-in-want":
		default:
			return errOther
		}
		if has {
			return errOther
		}
	}
	return nil
}
