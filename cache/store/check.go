package store

import (
	"errors"
	"fmt"
	"io/fs"
)

// ErrReplaced is in the chain of an error of Check when there is another folder, or
// another store, in the place of the store's own.
var ErrReplaced = errors.New("the folder was replaced by another one")

// Check returns an error when the store's folder is not the one that was opened:
// unreadable, gone, or another one in its place (ErrReplaced), as after a disk was
// unmounted. It asks the file system and reads nothing.
func (s *Store) Check() error {
	if s.closed.Load() {
		return fs.ErrClosed
	}
	if err := s.ours(); err != nil {
		return fmt.Errorf("check store %s: %w", s.opts.Dir, err)
	}
	if _, err := s.opts.free(s.opts.Dir); err != nil {
		return fmt.Errorf("check store %s: look for free space: %w", s.opts.Dir, err)
	}
	return nil
}
