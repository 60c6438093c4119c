package store

import (
	"errors"
	"fmt"
)

// ErrNoSpace is in the chain of the error of a write that was refused because
// the disk is nearly full, is mounted read-only, or because everything that
// could be dropped is in use. The store goes on serving what it holds, and takes
// writes again when there is space.
var ErrNoSpace = errors.New("no space for the store")

// A LockedError says that another process has the store open.
type LockedError struct {
	Dir string
	PID int // of the holder, 0 when it could not be read
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("open store %s: in use by another process; end it or use another folder", e.Dir)
	}
	return fmt.Sprintf("open store %s: in use by process %d; end it or use another folder", e.Dir, e.PID)
}

// A FormatError says that the store's folder was written by a larder which
// this one does not understand.
type FormatError struct {
	Dir   string
	Found string // first line of the FORMAT file
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("open store %s: format %q is not format %d of this version; use the larder that wrote it, or remove the folder",
		e.Dir, e.Found, formatVersion)
}

// A CorruptError says that stored bytes do not match their checksum or are
// missing from a generation that is still there. The object has been dropped by
// the time the error is returned: fetching it again is all there is to do.
type CorruptError struct {
	Key    Key
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("read stored object %x: %s", e.Key[:6], e.Reason)
}
