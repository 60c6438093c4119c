package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Seen is a body that came under a URL.
type Seen struct {
	URL, Variant string
	SHA256       Digest
	Size         int64 // as it was sent
	// Refuse: if it is not what is in force, nobody gets it.
	Refuse bool
}

// Observe compares a body with what is in force for its URL, and writes down what is new.
// It returns the entry that holds, or the one that speaks against the body, and whether
// the body is another one. An error says that nothing could be looked up; one of writing
// alone is ErrFull or such, with known set.
func (l *Ledger) Observe(s Seen) (e Entry, changed bool, err error) {
	if len(s.URL) > maxURL || len(s.Variant) > maxURL {
		return Entry{}, false, ErrTooLong
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now, err := l.current(s.URL, s.Variant)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Entry{}, false, err
	}
	next := Entry{URL: s.URL, Variant: s.Variant, SHA256: s.SHA256, Size: s.Size}
	switch {
	case err != nil:
		next.Kind = First
		if l.maxSize > 0 && l.bytes >= l.maxSize {
			return Entry{}, false, ErrFull
		}
	case now.InForce() == s.SHA256:
		return now, false, nil
	default:
		next.Kind, next.Was, next.Refused = Changed, now.InForce(), s.Refuse
		next.changes = now.changes + 1
		if now.Kind == Changed && (now.SHA256 == s.SHA256 && now.Refused == s.Refuse || now.changes >= maxChanges) {
			return now, true, nil // that is known
		}
	}
	err = l.append(&next)
	return next, next.Kind == Changed, err
}

// Accept puts another digest in force for a URL and variant: that of the latest change, or
// if sum is not nil that one.
func (l *Ledger) Accept(url, variant string, sum *Digest) (Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, err := l.current(url, variant)
	if err != nil {
		return Entry{}, err
	}
	next := Entry{Kind: Accepted, URL: url, Variant: variant, SHA256: now.SHA256, Size: now.Size, Was: now.InForce()}
	if sum != nil {
		next.SHA256, next.Size = *sum, 0
	}
	if next.SHA256 == next.Was {
		return now, nil // it is in force
	}
	return next, l.append(&next)
}

// append writes an entry. It is called with mu held, and sets number, time and links.
func (l *Ledger) append(e *Entry) error {
	if l.readOnly {
		return errors.New("the ledger was opened for reading")
	}
	if l.err != nil {
		return l.err
	}
	at, ok, err := l.latest(e.URL)
	if err != nil {
		return err
	}
	if ok {
		e.prev = at
	}
	e.N, e.Time = l.tree.size, l.now().UTC().Truncate(time.Millisecond)
	record := appendRecord(nil, e)
	if _, err := l.active.file.WriteAt(record, l.active.size); err != nil {
		// A part of it may be there: the next record is written over it.
		return fmt.Errorf("write to the ledger: %w", err)
	}
	l.take(e, uint32(l.active.size))
	l.active.size += int64(len(record))
	l.bytes += int64(len(record))
	l.active.count++
	if l.active.count == 1<<l.level {
		return l.seal()
	}
	return nil
}

func segmentHeader(first int64) []byte {
	return binary.BigEndian.AppendUint64([]byte(segmentMagic), uint64(first))
}

// seal makes the active segment one of the full ones and begins another. Were larder to
// crash anywhere in between, the next Open would do the same again.
func (l *Ledger) seal() error {
	if err := l.active.file.Sync(); err != nil {
		return l.fail(err)
	}
	s, err := l.writeIndex(l.active.first, l.active.tree.root(), l.active.latest, l.active.events)
	if err != nil {
		return l.fail(err)
	}
	next := l.active.first + 1<<l.level
	f, err := os.OpenFile(segmentPath(l.dir, next), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return l.fail(err)
	}
	_, err = f.WriteAt(segmentHeader(next), 0)
	if err = errors.Join(err, f.Sync(), syncDir(l.dir)); err != nil {
		return l.fail(errors.Join(err, f.Close()))
	}
	err = l.active.file.Close()
	l.sealed = append(l.sealed, s)
	l.active = active{first: next, file: f, size: int64(segmentHead), latest: make(map[uint64]uint32)}
	l.bytes += int64(segmentHead)
	l.synced = l.head()
	return err
}

// fail ends the writing: what is on disk is in doubt. The next Open finds out.
func (l *Ledger) fail(err error) error {
	l.err = fmt.Errorf("nothing is written to the ledger any more: %w", err)
	l.log.Error("the ledger is broken: first digests are not written down until larder is started again", "err", err)
	return l.err
}

// Sync has everything on disk, and a checkpoint that says so, when it returns.
func (l *Ledger) Sync() error {
	if err := l.syncData(); err != nil {
		return err
	}
	return l.syncHead()
}

// head is the checkpoint of all entries. It is called with mu held.
func (l *Ledger) head() Checkpoint {
	return Checkpoint{Origin: l.key.signer.Name(), Size: l.tree.size, Root: l.tree.root()}
}

// syncData has all entries on disk that there are now.
func (l *Ledger) syncData() error {
	l.mu.RLock()
	f, head, done, err := l.active.file, l.head(), l.synced.Size, l.err
	l.mu.RUnlock()
	if err != nil || f == nil || head.Size == done {
		return err
	}
	// Without the lock: a sync takes long. Segments are synced before they are closed, so
	// that one that was closed meanwhile is on disk.
	if err := f.Sync(); err != nil && !errors.Is(err, fs.ErrClosed) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.fail(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if head.Size > l.synced.Size {
		l.synced = head
	}
	return nil
}

// syncHead signs a checkpoint for what is on disk. It is never for more: the next Open
// would take the ledger for damaged.
func (l *Ledger) syncHead() error {
	l.mu.RLock()
	head, signed, err := l.synced, l.signed, l.err
	l.mu.RUnlock()
	if err != nil || head.Size == signed || head.Size == 0 {
		return err
	}
	text, err := l.key.sign(head)
	if err == nil {
		err = writeNew(filepath.Join(l.dir, checkpointFile), text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the checkpoint of the ledger: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.signed = head.Size
	return nil
}

const checkpointFile = "checkpoint"

// readCheckpoint reads the one on disk, whose zero value is that of a new ledger.
func (l *Ledger) readCheckpoint() (Checkpoint, error) {
	text, err := os.ReadFile(filepath.Join(l.dir, checkpointFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Checkpoint{}, nil
	}
	if err != nil {
		return Checkpoint{}, err
	}
	head, err := OpenCheckpoint(string(text), l.key.verifier)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: its checkpoint: %w", ErrDamaged, err)
	}
	return head, nil
}

// tend syncs now and then, until Close.
func (l *Ledger) tend() {
	t := time.NewTicker(syncEvery)
	defer t.Stop()
	last := time.Now()
	for {
		select {
		case <-l.stop:
			return
		case <-t.C:
		}
		if err := l.syncData(); err != nil {
			continue // told when it broke
		}
		if time.Since(last) >= signEvery {
			last = time.Now()
			if err := l.syncHead(); err != nil {
				l.log.Warn("the head of the ledger is not signed", "err", err)
			}
		}
	}
}
