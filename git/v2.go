package git

import (
	"cmp"
	"strings"
)

// readV2 reads a request of version 2: a command, capabilities, after a delimiter its
// arguments, and a flush.
func (p *requestReader) readV2() error {
	kind, line, err := p.next()
	if err != nil || kind != dataPacket {
		return cmp.Or(err, errOther)
	}
	p.noteLine(line)
	var argument func(string) error
	switch line {
	case "command=ls-refs":
		p.request.Kind, argument = Refs, p.refsArgument
	case "command=fetch":
		p.request.Kind, argument = Fetch, p.fetchArgument
	default:
		return errOther
	}
	kind, err = p.lines(p.capability)
	if err != nil {
		return err
	}
	if kind == delimPacket {
		if kind, err = p.lines(argument); err != nil {
			return err
		}
	}
	if kind != flushPacket || p.request.Kind == Fetch && !p.wanted {
		return errOther
	}
	p.request.packs = p.request.Kind == Fetch && (p.done || !p.has)
	return p.end()
}

// lines reads lines up to a packet without data.
func (p *requestReader) lines(read func(string) error) (packet, error) {
	for {
		kind, line, err := p.next()
		if err != nil || kind != dataPacket {
			return kind, err
		}
		if err := read(line); err != nil {
			return 0, err
		}
	}
}

// capability reads a capability of version 2. Only what changes the answer is noted.
func (p *requestReader) capability(line string) error {
	name, value, _ := strings.Cut(line, "=")
	switch name {
	case "agent", "session-id":
		return nil
	case "object-format":
		p.noteLine(line)
		return p.objectFormat(value)
	}
	return errOther // server-option above all, which means what the server wants
}

// refsArgument reads an argument of the command ls-refs, none of which makes a
// difference to how long the answer holds.
func (p *requestReader) refsArgument(line string) error {
	p.noteLine(line)
	return nil
}

// fetchArgument reads an argument of the command fetch.
func (p *requestReader) fetchArgument(line string) error {
	p.noteLine(line)
	name, value, has := strings.Cut(line, " ")
	if !has {
		switch name {
		case "done":
			p.done = true
		case "sideband-all":
			p.request.all = true
		case "thin-pack", "no-progress", "include-tag", "ofs-delta", "deepen-relative", "wait-for-done":
		default:
			return errOther
		}
		return nil
	}
	switch name {
	case "want":
		p.wanted = true
	case "have":
		p.has = true
	}
	return p.valueOf(name, value)
}

// valueOf judges the value of a line that all versions share. What names a ref is not
// among them: which commit that is depends on now.
func (p *requestReader) valueOf(name, value string) error {
	ok := false
	switch name {
	case "want", "have", "shallow":
		ok = p.isName(value)
	case "deepen", "deepen-since":
		ok = isNumber(value)
	case "filter":
		ok = p.isFilter(value)
	}
	if !ok {
		return errOther
	}
	return nil
}
