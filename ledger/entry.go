package ledger

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Kind is what an entry says. Its values go to disk.
type Kind uint8

const (
	// First: the URL was seen for the first time.
	First Kind = 1
	// Changed: other bytes came under the URL.
	Changed Kind = 2
	// Accepted: an operator has accepted other bytes, which are in force from then on.
	Accepted Kind = 3
)

// String returns first, changed or accepted.
func (k Kind) String() string {
	switch k {
	case First:
		return "first"
	case Changed:
		return "changed"
	case Accepted:
		return "accepted"
	}
	return "invalid"
}

func parseKind(s string) (Kind, bool) {
	for k := First; k <= Accepted; k++ {
		if k.String() == s {
			return k, true
		}
	}
	return 0, false
}

// Digest is the SHA-256 of a body without its content coding.
type Digest [32]byte

// String returns it in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Entry is a record of the ledger.
type Entry struct {
	// N is the number of the entry, from 0.
	N int64
	// Time is when it was written, to the millisecond.
	Time time.Time
	Kind Kind
	// URL is the key's: without user information and fragment, in normal form.
	URL string
	// Variant tells the responses of one URL apart, "" where there is one.
	Variant string
	// SHA256 is the digest of the body that was seen, and Size its length as it was sent.
	SHA256 Digest
	Size   int64
	// Was is the digest that was in force, of Changed and Accepted.
	Was Digest
	// Refused: the body of Changed was let through to nobody.
	Refused bool

	// changes counts Changed since First or Accepted; prev is where the entry before is
	// that has the same URL.
	changes uint64
	prev    position
}

// InForce is the digest that the URL has to have from this entry on.
func (e *Entry) InForce() Digest {
	if e.Kind == Changed {
		return e.Was
	}
	return e.SHA256
}

// entryJSON is an entry as it is exported. The order of the fields and what is left out
// are part of the format: the line is the leaf of the tree.
type entryJSON struct {
	N       int64  `json:"n"`
	Time    string `json:"time"`
	Kind    string `json:"kind"`
	URL     string `json:"url"`
	Variant string `json:"variant,omitempty"`
	SHA256  string `json:"sha256"`
	Size    int64  `json:"size"`
	Was     string `json:"was,omitempty"`
	Refused bool   `json:"refused,omitempty"`
}

const timeFormat = "2006-01-02T15:04:05.000Z"

// Line returns the entry as a line of JSON without the newline: the leaf of the tree.
func (e *Entry) Line() []byte {
	j := entryJSON{
		N: e.N, Time: e.Time.UTC().Format(timeFormat), Kind: e.Kind.String(), URL: e.URL, Variant: e.Variant,
		SHA256: e.SHA256.String(), Size: e.Size, Refused: e.Refused,
	}
	if e.Kind != First {
		j.Was = e.Was.String()
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(j) // strings and numbers
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// MarshalJSON implements json.Marshaler.
func (e Entry) MarshalJSON() ([]byte, error) { return e.Line(), nil }

// ParseLine reads what Line wrote. It takes nothing else: the line of the entry is the
// line that was read.
func ParseLine(line []byte) (Entry, error) {
	var j entryJSON
	if err := json.Unmarshal(line, &j); err != nil {
		return Entry{}, fmt.Errorf("read an entry of a ledger: %w", err)
	}
	e := Entry{N: j.N, URL: j.URL, Variant: j.Variant, Size: j.Size, Refused: j.Refused}
	var err error
	if e.Time, err = time.Parse(timeFormat, j.Time); err != nil {
		return Entry{}, fmt.Errorf("read an entry of a ledger: %w", err)
	}
	e.Kind, _ = parseKind(j.Kind)
	_, err1 := hex.Decode(e.SHA256[:], []byte(j.SHA256[:min(len(j.SHA256), 64)]))
	_, err2 := hex.Decode(e.Was[:], []byte(j.Was[:min(len(j.Was), 64)]))
	if err1 != nil || err2 != nil || !bytes.Equal(e.Line(), line) {
		return Entry{}, fmt.Errorf("read an entry of a ledger: %.80q is none", line)
	}
	return e, nil
}

func (e *Entry) leaf() tlog.Hash { return tlog.RecordHash(e.Line()) }
