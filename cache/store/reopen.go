package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Reopen closes the store and opens what is now in its folder, which Check has found
// to be another one. It does not make the folder: a disk that is not there is no
// reason to fill the one below. After an error it may be called again.
//
// Badger instances that could not be closed, because their files are out of reach,
// are left behind as a crash leaves them, in memory. They know their files by path:
// so numbers of generations are not used again, and a folder in which instances were
// left behind is not opened again by this process.
func (s *Store) Reopen() (*Store, error) {
	if _, err := os.Stat(s.opts.Dir); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := s.Close(); err != nil {
		s.log.Warn("close the store whose folder was replaced", "dir", s.opts.Dir, "err", err)
	}
	return openAfter(s.opts, s)
}

// leftBehind notes that the Badger instance of g was given up.
func (s *Store) leftBehind(g *generation) {
	if g.folder != nil {
		s.left = append(s.left, g.folder)
	}
}

// checkLeft refuses a folder in which this process has left an instance behind.
func (s *Store) checkLeft(dir string) error {
	there, err := os.Stat(dir)
	if err != nil {
		return err
	}
	for _, info := range s.left {
		if os.SameFile(info, there) {
			return fmt.Errorf("%s was taken away while it was in use and is back; restart larder to use it again", dir)
		}
	}
	return nil
}

// ours reports whether the folder is the one that was opened.
func (s *Store) ours() error {
	ours, err := s.lock.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(filepath.Join(s.opts.Dir, lockName))
	if errors.Is(err, fs.ErrNotExist) {
		if info, err := os.Stat(s.opts.Dir); err == nil && info.IsDir() {
			return ErrReplaced
		}
	}
	if err != nil {
		return err
	}
	if !os.SameFile(ours, there) {
		return ErrReplaced
	}
	return nil
}

const (
	// closeTime bounds how long the closing of a Badger instance, which writes a
	// table of a few MiB, is waited for on a slow disk.
	closeTime = time.Minute
	// closePoll is how often it is asked meanwhile whether the folder is still there.
	closePoll = 100 * time.Millisecond
)

// errStuck says that a Badger instance does not close.
var errStuck = errors.New("its disk is gone, or takes nothing any more")

// closeDB closes a Badger instance. Badger tries for ever to write what it holds in
// memory; where that will not succeed the goroutine that tries is left to it. The caller
// holds mu.
func (g *generation) closeDB(db *badger.DB) error {
	done := make(chan error, 1)
	go func() { done <- db.Close() }() // ends with the process at the latest, see above
	deadline := time.NewTimer(closeTime)
	defer deadline.Stop()
	tick := time.NewTicker(closePoll)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-deadline.C:
			g.leave()
			return errStuck
		case <-tick.C:
			// One that only reads has nothing to write, and ends.
			if _, err := os.Stat(g.dir); err != nil && !g.readOnly {
				g.leave()
				return errStuck
			}
		}
	}
}
