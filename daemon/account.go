package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
)

// accountMemory is how many bytes of a run's list stay in memory before they
// move to a file. Most runs never reach it.
const accountMemory = 256 << 10

// account is the list and the sums of one run's exchanges, as lines of JSON. What
// exceeds accountMemory goes to a file without a name, which the kernel takes
// back when the daemon ends, however it ends.
type account struct {
	dir    string
	memory int

	mu      sync.Mutex // guards what follows
	sum     Summary
	recent  bytes.Buffer // the newest lines
	spill   *os.File     // the lines before; nil until needed
	spilled int64        // complete lines in spill, in bytes
	frozen  bool         // nothing is booked any more
	closed  bool
}

func newAccount(dir string) *account {
	return &account{dir: dir, memory: accountMemory}
}

// add books one exchange. It never fails: where the list cannot be kept, the sums
// are, and say how many are missing from the list.
func (a *account) add(x Exchange) {
	line, err := json.Marshal(x)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.frozen {
		return
	}
	a.sum.add(x)
	if err != nil {
		a.sum.Unlisted++
		return
	}
	if a.recent.Len()+len(line)+1 > a.memory && a.flush() != nil {
		// The disk is full. What is in memory is kept, for its order is the
		// list's; later ones may find room again.
		a.sum.Unlisted++
		return
	}
	a.recent.Write(line)
	a.recent.WriteByte('\n')
}

// flush moves the lines from memory to the file. A write that fails halfway is
// written over by the next.
func (a *account) flush() error {
	if a.spill == nil {
		f, err := os.CreateTemp(a.dir, ".run-*")
		if err != nil {
			return err
		}
		if err := os.Remove(f.Name()); err != nil {
			f.Close()
			return err
		}
		a.spill = f
	}
	n, err := a.spill.WriteAt(a.recent.Bytes(), a.spilled)
	if err != nil {
		return err
	}
	a.spilled += int64(n)
	a.recent.Reset()
	return nil
}

func (a *account) summary() Summary {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sum
}

// freeze ends the booking, and returns the sums of what the list has.
func (a *account) freeze() Summary {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.frozen = true
	return a.sum
}

// writeTo writes the lines booked until now, oldest first, without holding up
// the exchanges that end meanwhile.
func (a *account) writeTo(w io.Writer) error {
	a.mu.Lock()
	recent := bytes.Clone(a.recent.Bytes())
	spill, spilled := a.spill, a.spilled
	closed := a.closed
	a.mu.Unlock()
	if closed {
		return fmt.Errorf("list of the run: %w", os.ErrClosed)
	}
	if spill != nil {
		// Only bytes that flush will not touch again are read.
		if _, err := io.Copy(w, io.NewSectionReader(spill, 0, spilled)); err != nil {
			return fmt.Errorf("list of the run: %w", err)
		}
	}
	if _, err := w.Write(recent); err != nil {
		return fmt.Errorf("list of the run: %w", err)
	}
	return nil
}

func (a *account) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.frozen, a.closed = true, true
	a.recent = bytes.Buffer{}
	if a.spill != nil {
		a.spill.Close()
		a.spill = nil
	}
}
