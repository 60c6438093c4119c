package ledger

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"
)

// checkpointLine is the last line of an export.
func checkpointLine(signed string) ([]byte, error) {
	line, err := json.Marshal(struct {
		Checkpoint string `json:"checkpoint"`
	}{signed})
	return append(line, '\n'), err
}

// verification follows a tree as its leaves come.
type verification struct {
	tree    frontier
	old     Checkpoint
	checked bool // the old checkpoint was met, or there is none
}

// ErrInconsistent: entries that were signed for earlier are no longer there, or others.
var ErrInconsistent = errors.New("the ledger is not a continuation of the earlier one")

func (v *verification) begin() error { return v.meet() }

func (v *verification) add(leaf tlog.Hash) error {
	v.tree.push(0, leaf)
	return v.meet()
}

func (v *verification) meet() error {
	if v.checked || v.tree.size != v.old.Size {
		return nil
	}
	v.checked = true
	if v.tree.root() != v.old.Root {
		return fmt.Errorf("%w: its first %d entries are others", ErrInconsistent, v.old.Size)
	}
	return nil
}

func (v *verification) end(head Checkpoint) error {
	switch {
	case v.tree.size != head.Size || v.tree.root() != head.Root:
		return fmt.Errorf("%w: %d entries do not make the tree of %d that is signed", ErrDamaged, v.tree.size, head.Size)
	case !v.checked:
		return fmt.Errorf("%w: the earlier one has %d entries, and this one %d", ErrInconsistent, v.old.Size, v.tree.size)
	}
	return nil
}

// maxLine is the longest line of an export.
const maxLine = 6*2*maxURL + 4096 // every character escaped

// ReadExport reads an export from its first entry on, and verifies that its entries make
// the tree of its checkpoint, which a public key has signed. earlier is a signed
// checkpoint that it must be a continuation of, "" for none. each, which may be nil, is
// called with every entry.
func ReadExport(r io.Reader, verifier, earlier string, each func(Entry) error) (Checkpoint, error) {
	head, err := readExport(r, verifier, earlier, each)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("verify an export: %w", err)
	}
	return head, nil
}

func readExport(r io.Reader, verifier, earlier string, each func(Entry) error) (Checkpoint, error) {
	v := verification{checked: earlier == ""}
	if earlier != "" {
		var err error
		if v.old, err = OpenCheckpoint(earlier, verifier); err != nil {
			return Checkpoint{}, err
		}
	}
	if err := v.begin(); err != nil {
		return Checkpoint{}, err
	}
	signed, err := ExportLines(r, func(line []byte) error {
		e, err := ParseLine(line)
		if err != nil {
			return err
		}
		if e.N != v.tree.size {
			return fmt.Errorf("entry %d stands where %d should: only an export of all entries can be verified", e.N, v.tree.size)
		}
		if err := v.add(tlog.RecordHash(line)); err != nil {
			return err
		}
		if each != nil {
			return each(e)
		}
		return nil
	})
	if err != nil {
		return Checkpoint{}, err
	}
	head, err := OpenCheckpoint(signed, verifier)
	if err != nil {
		return Checkpoint{}, err
	}
	return head, v.end(head)
}

// ExportLines calls each with the entries of an export, and returns its signed checkpoint.
func ExportLines(r io.Reader, each func(line []byte) error) (signed string, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if signed != "" {
			return "", errors.New("something follows the checkpoint")
		}
		var last struct {
			Checkpoint string `json:"checkpoint"`
		}
		if json.Unmarshal(lines.Bytes(), &last) == nil && last.Checkpoint != "" {
			signed = last.Checkpoint
			continue
		}
		if err := each(lines.Bytes()); err != nil {
			return "", err
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	if signed == "" {
		return "", errors.New("it has no checkpoint at its end: it was cut short")
	}
	return signed, nil
}
