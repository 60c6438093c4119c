package ledger

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// errEnough ends a scan for who asks for it, and errPast because the end is reached.
var (
	errEnough = errors.New("enough")
	errPast   = errors.New("past the end")
)

// scan calls each with the entries from from to before to, in order. It needs no lock:
// records do not change.
func (l *Ledger) scan(from, to int64, each func(*Entry) error) error {
	for from < to {
		segment := from >> l.level
		first := segment << l.level
		next := (segment + 1) << l.level
		_, _, err := scanSegment(segmentPath(l.dir, first), first, int(from-first), func(e *Entry, _ uint32) error {
			if e.N >= to {
				return errPast
			}
			return each(e)
		})
		if err != nil && !errors.Is(err, errPast) {
			return err
		}
		from = next
	}
	return nil
}

// Entries yields the entries from number from on that there are now, in order.
func (l *Ledger) Entries(from int64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		at, to := from, l.Stats().Entries
		err := l.scan(from, to, func(e *Entry) error {
			if !yield(*e, nil) {
				return errEnough
			}
			at = e.N + 1
			return nil
		})
		switch {
		case errors.Is(err, errEnough):
		case err != nil:
			yield(Entry{}, fmt.Errorf("read the ledger: %w", err))
		case at < to:
			yield(Entry{}, fmt.Errorf("read the ledger: %w: entry %d cannot be read", ErrDamaged, at))
		}
	}
}

// Since returns the number of the first entry that is not older than a time, or how many
// entries there are.
func (l *Ledger) Since(t time.Time) (int64, error) {
	size := l.Stats().Entries
	// The last segment that begins before it.
	low, high := int64(0), (size+1<<l.level-1)>>l.level
	for low+1 < high {
		mid := (low + high) / 2
		e, err := l.read(position{mid, uint32(segmentHead)})
		if err != nil {
			return 0, fmt.Errorf("read the ledger: %w", err)
		}
		if e.Time.Before(t) {
			low = mid
		} else {
			high = mid
		}
	}
	found := size
	err := l.scan(low<<l.level, size, func(e *Entry) error {
		if e.Time.Before(t) {
			return nil
		}
		found = e.N
		return errEnough
	})
	if err != nil && !errors.Is(err, errEnough) {
		return 0, fmt.Errorf("read the ledger: %w", err)
	}
	return found, nil
}

// Events returns what came under URLs that had other bytes before, and what was accepted:
// at most limit entries, the newest first.
func (l *Ledger) Events(limit int) ([]Entry, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var all []Entry
	in := func(segment int64, offsets []uint32) error {
		for i := len(offsets) - 1; i >= 0 && len(all) < limit; i-- {
			e, err := l.read(position{segment, offsets[i]})
			if err != nil {
				return fmt.Errorf("read the ledger: %w", err)
			}
			all = append(all, e)
		}
		return nil
	}
	err := in(l.active.first>>l.level, l.active.events)
	for i := len(l.sealed) - 1; i >= 0 && err == nil; i-- {
		err = in(int64(i), l.sealed[i].events)
	}
	return all, err
}

// Checkpoint signs the head of what there is now.
func (l *Ledger) Checkpoint() (string, error) {
	l.mu.RLock()
	head := l.head()
	l.mu.RUnlock()
	return l.key.sign(head)
}

// Export writes the entries from number from on as lines of JSON, and behind them a line
// with a checkpoint of exactly these and the ones before.
func (l *Ledger) Export(w io.Writer, from int64) error {
	l.mu.RLock()
	head := l.head()
	l.mu.RUnlock()
	at := from
	err := l.scan(from, head.Size, func(e *Entry) error {
		at = e.N + 1
		_, err := w.Write(append(e.Line(), '\n'))
		return err
	})
	if err == nil && at < head.Size {
		err = fmt.Errorf("%w: entry %d cannot be read", ErrDamaged, at)
	}
	if err != nil {
		return fmt.Errorf("export the ledger: %w", err)
	}
	signed, err := l.key.sign(head)
	if err != nil {
		return err
	}
	line, err := checkpointLine(signed)
	if err == nil {
		_, err = w.Write(line)
	}
	if err != nil {
		return fmt.Errorf("export the ledger: %w", err)
	}
	return nil
}

// Verify reads every entry, and compares the tree that they make with the one of which
// the ledger knows, and with an earlier signed checkpoint unless that is "". It returns
// how many entries there are.
func (l *Ledger) Verify(earlier string) (int64, error) {
	l.mu.RLock()
	head := l.head()
	l.mu.RUnlock()
	var old Checkpoint
	if earlier != "" {
		var err error
		if old, err = OpenCheckpoint(earlier, l.key.verifier); err != nil {
			return 0, err
		}
	}
	v := verification{old: old, checked: earlier == ""}
	if err := v.begin(); err != nil {
		return 0, err
	}
	if err := l.scan(0, head.Size, func(e *Entry) error { return v.add(e.leaf()) }); err != nil {
		return 0, err
	}
	return v.tree.size, v.end(head)
}

// Consistency proves that the tree of the first old entries is the beginning of that of
// the first size ones (RFC 6962, section 2.1.2); tlog.CheckTree verifies it.
func (l *Ledger) Consistency(old, size int64) (tlog.TreeProof, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if old < 1 || old > size || size > l.tree.size {
		return nil, fmt.Errorf("no proof from %d to %d entries: the ledger has %d", old, size, l.tree.size)
	}
	return tlog.ProveTree(size, old, tlog.HashReaderFunc(l.readHashes))
}
