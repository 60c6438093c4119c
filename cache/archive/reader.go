package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
)

// A FormatError says that what is read is no archive, or none that this larder
// knows. Nothing after it can be read.
type FormatError struct{ Reason string }

// Error says what was found.
func (e *FormatError) Error() string { return "read archive: " + e.Reason }

// A Reader reads an archive. It is used by one goroutine, and trusts nothing it
// reads: whatever the bytes, it holds no more than 16 MiB of them.
type Reader struct {
	tar   *tar.Reader
	begun bool
	ended bool
	last  [32]byte // digest of the body read last
	body  bool     // there was one
	// refused: a file of responses could not be read, so they cannot be counted.
	refused bool
	totals  Totals

	lines bytes.Buffer // what the next list of digests must say
	lists int
}

// NewReader begins to read an archive from r.
func NewReader(r io.Reader) *Reader { return &Reader{tar: tar.NewReader(r)} }

// An Entry is one file of the archive: a body, or responses to the body before.
type Entry struct {
	// Name of the file in the archive.
	Name string
	// Sum is the SHA-256 of the body that this is, or that the responses have, and
	// Size a body's length in bytes.
	Sum  [32]byte
	Size int64
	// Body reads a body, until the next call of Next; nil for responses. When all of
	// it was read and it does not match Sum it returns a *DamagedError in place of
	// io.EOF.
	Body io.Reader
	// Responses to the body that came before.
	Responses []Response
	// Err is why a file of responses is refused: a *DamagedError, or what is wrong
	// with its content. The archive goes on.
	Err error
}

// Next returns the next entry. It returns io.EOF after the last one of a complete
// archive, io.ErrUnexpectedEOF where one was cut short, and a *FormatError where it
// cannot be read on.
func (a *Reader) Next() (*Entry, error) {
	for {
		h, err := a.next()
		if err != nil {
			return nil, err
		}
		if !a.begun {
			if err := a.start(h); err != nil {
				return nil, err
			}
			continue
		}
		switch {
		case a.ended:
			return nil, &FormatError{Reason: fmt.Sprintf("%s comes after the end", h.Name)}
		case h.Name == endFile:
			if err := a.end(h); err != nil {
				return nil, err
			}
		case strings.HasPrefix(h.Name, sumsPrefix):
			if err := a.checkList(h); err != nil {
				return nil, err
			}
		default:
			return a.entry(h)
		}
	}
}

// Totals are what was read so far; after io.EOF those that the archive says.
func (a *Reader) Totals() Totals { return a.totals }

func (a *Reader) next() (*tar.Header, error) {
	h, err := a.tar.Next()
	switch {
	case err == io.EOF && a.ended:
		return nil, io.EOF
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		if !a.begun {
			return nil, &FormatError{Reason: "it is empty"}
		}
		return nil, io.ErrUnexpectedEOF
	case errors.Is(err, tar.ErrHeader):
		return nil, &FormatError{Reason: "this is no tar file, or a damaged one"}
	case err != nil:
		return nil, fmt.Errorf("read archive: %w", err)
	case h.Typeflag != tar.TypeReg:
		return nil, &FormatError{Reason: fmt.Sprintf("%s is no plain file", h.Name)}
	}
	return h, nil
}

func (a *Reader) start(h *tar.Header) error {
	var found header
	if h.Name != formatFile {
		return &FormatError{Reason: fmt.Sprintf("it begins with %s, not with %s: this is another kind of tar file", h.Name, formatFile)}
	}
	if err := a.decode(h, &found); err != nil {
		return err
	}
	if found.Format != formatName || found.Version != Version {
		return &FormatError{Reason: fmt.Sprintf("it is %q of version %d, and this larder reads version %d", found.Format, found.Version, Version)}
	}
	a.begun = true
	return nil
}

func (a *Reader) end(h *tar.Header) error {
	var want Totals
	if err := a.decode(h, &want); err != nil {
		return err
	}
	if a.lines.Len() > 0 {
		return &FormatError{Reason: "the last list of digests is missing"}
	}
	got := a.totals
	got.Damaged = want.Damaged
	if a.refused {
		got.Responses = want.Responses
	}
	if got != want {
		return &FormatError{Reason: fmt.Sprintf("it should hold %d bodies and %d responses, and there were %d and %d",
			want.Bodies, want.Responses, got.Bodies, got.Responses)}
	}
	a.totals = want
	a.ended = true
	return nil
}

// checkList compares a list of digests with the files that came.
func (a *Reader) checkList(h *tar.Header) error {
	a.lists++
	if h.Name != sumsName(a.lists) {
		return &FormatError{Reason: fmt.Sprintf("%s comes in the place of %s", h.Name, sumsName(a.lists))}
	}
	text, err := a.content(h)
	if err != nil {
		return err
	}
	if !bytes.Equal(text, a.lines.Bytes()) {
		return &FormatError{Reason: fmt.Sprintf("%s lists other files than those that came", h.Name)}
	}
	a.lines.Reset()
	return nil
}

// entry reads a file below objects.
func (a *Reader) entry(h *tar.Header) (*Entry, error) {
	sum, file, ok := parseName(h.Name)
	if !ok {
		return nil, &FormatError{Reason: fmt.Sprintf("%q is no name of a file in it", h.Name)}
	}
	e := &Entry{Name: h.Name, Sum: sum, Size: h.Size}
	if file == bodyFile {
		a.last, a.body = sum, true
		a.totals.Bodies++
		a.totals.Bytes += h.Size
		e.Body = &checked{r: a.tar, digest: sha256.New(), entry: e}
		return e, a.note(sum, h.Name)
	}
	own, ok := parseSum(strings.TrimSuffix(file, jsonSuffix))
	if !ok || !strings.HasSuffix(file, jsonSuffix) {
		return nil, &FormatError{Reason: fmt.Sprintf("%q is no name of a file in it", h.Name)}
	}
	if !a.body || a.last != sum {
		return nil, &FormatError{Reason: fmt.Sprintf("%s does not follow its body", h.Name)}
	}
	text, err := a.content(h)
	if err != nil {
		return nil, err
	}
	e.responses(text, own)
	a.totals.Responses += int64(len(e.Responses))
	a.refused = a.refused || e.Err != nil
	return e, a.note(own, h.Name)
}

// responses decodes a file of responses.
func (e *Entry) responses(text []byte, own [32]byte) {
	e.Size = 0
	if sha256.Sum256(text) != own {
		e.Err = &DamagedError{Name: e.Name}
		return
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&e.Responses); err != nil {
		e.Responses = nil
		e.Err = fmt.Errorf("%s: %w", e.Name, err)
	}
}

// note remembers what the next list of digests must say of a file.
func (a *Reader) note(sum [32]byte, name string) error {
	fmt.Fprintf(&a.lines, "%x  %s\n", sum, name)
	if a.lines.Len() > maxJSON {
		return &FormatError{Reason: "a list of digests is missing"}
	}
	return nil
}

func (a *Reader) decode(h *tar.Header, v any) error {
	text, err := a.content(h)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return &FormatError{Reason: fmt.Sprintf("%s: %v", h.Name, err)}
	}
	return nil
}

func (a *Reader) content(h *tar.Header) ([]byte, error) {
	if h.Size > maxJSON {
		return nil, &FormatError{Reason: fmt.Sprintf("%s has %d bytes, which is too much", h.Name, h.Size)}
	}
	// Grown as bytes arrive: the size is the archive's word only.
	text, err := io.ReadAll(a.tar)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", h.Name, err)
	}
	return text, nil
}

func parseName(name string) (sum [32]byte, file string, ok bool) {
	rest, ok := strings.CutPrefix(name, objectsDir)
	if !ok {
		return sum, "", false
	}
	dir, file, _ := strings.Cut(rest, "/")
	sum, ok = parseSum(dir)
	return sum, file, ok
}

func parseSum(s string) (sum [32]byte, ok bool) {
	if len(s) != hex.EncodedLen(len(sum)) || strings.ToLower(s) != s {
		return sum, false
	}
	_, err := hex.Decode(sum[:], []byte(s))
	return sum, err == nil
}

// checked hashes a body while it is read.
type checked struct {
	r      io.Reader
	digest hash.Hash
	entry  *Entry
	err    error
}

// Read returns a *DamagedError in place of io.EOF when the digest does not match.
func (c *checked) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	c.digest.Write(p[:n])
	if err == io.EOF && [32]byte(c.digest.Sum(nil)) != c.entry.Sum {
		err = &DamagedError{Name: c.entry.Name}
	}
	c.err = err
	return n, err
}
