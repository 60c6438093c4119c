package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Badger writes through memory maps of sparse files: on a full disk the write is
// a SIGBUS and the end of the process, with nothing to recover. So before every
// batch the store looks at the free space, keeping a reserve for the files that
// Badger begins by itself, and reserves blocks with fallocate in the files where
// this batch will land, which fails as an error does. A fault while a
// generation is begun is caught (openBadger). What remains is somebody else taking
// the whole reserve within the milliseconds in which Badger's own goroutines begin
// a write-ahead log or write a table, a few times per generation. A ballast file
// released at that moment would be no help: what is released is anybody's, and the
// table is created with O_EXCL, so that no file with blocks can be put in its place.

// An ahead reserves space in the files of the head generation that Badger is
// about to write to. It is used by one goroutine at a time.
type ahead struct {
	dir      string
	geo      geometry
	valueLog trackedFile
	wal      trackedFile
}

// A trackedFile follows a sequence of files, of which Badger writes the last.
type trackedFile struct {
	format    string // of the path, given the number
	number    int
	written   int64 // upper bound of Badger's write offset
	allocated int64
	f         *os.File
}

// fileHeader is how much Badger writes into a new log file by itself.
const fileHeader = 20

// entryOverhead bounds what Badger adds to a key and a value in a log: header,
// version, checksum, and the marker that ends a transaction.
const entryOverhead = 22 + 8 + 4 + 64

// newAhead begins with the newest files in dir, which a Badger opened for
// writing has created afresh.
func newAhead(dir string, geo geometry) (*ahead, error) {
	a := &ahead{dir: dir, geo: geo}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	a.valueLog = trackedFile{format: filepath.Join(dir, "%06d.vlog"), written: fileHeader}
	a.wal = trackedFile{format: filepath.Join(dir, "%05d.mem"), written: fileHeader}
	for _, e := range entries {
		for suffix, t := range map[string]*trackedFile{".vlog": &a.valueLog, ".mem": &a.wal} {
			if stem, ok := strings.CutSuffix(e.Name(), suffix); ok {
				if n, err := strconv.Atoi(stem); err == nil {
					t.number = max(t.number, n)
				}
			}
		}
	}
	return a, nil
}

// reserve makes sure of the blocks for a batch of these sizes.
func (a *ahead) reserve(logBytes, walBytes int64) error {
	if err := a.valueLog.reserve(logBytes, a.geo.prealloc); err != nil {
		return err
	}
	// Which write makes Badger begin a new write-ahead log depends on its skip
	// list, so a whole one is reserved at a time.
	return a.wal.reserve(walBytes, a.geo.memTable)
}

// wrote notes what a batch may have taken.
func (a *ahead) wrote(logBytes, walBytes int64) {
	a.valueLog.written += logBytes
	a.wal.written += walBytes
}

func (a *ahead) close() {
	a.valueLog.close()
	a.wal.close()
}

func (t *trackedFile) reserve(n, step int64) error {
	for {
		// Badger goes on to the next file after a batch, never within one, so the
		// newest file is where this batch goes.
		if _, err := os.Lstat(fmt.Sprintf(t.format, t.number+1)); err != nil {
			break
		}
		t.close()
		t.number, t.written, t.allocated = t.number+1, fileHeader, 0
	}
	if n == 0 || t.written+n <= t.allocated {
		return nil
	}
	if t.f == nil {
		f, err := os.OpenFile(fmt.Sprintf(t.format, t.number), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		t.f = f
	}
	grow := max(step, t.written+n-t.allocated)
	if err := preallocate(t.f, t.allocated, grow); err != nil {
		return noSpace(err)
	}
	t.allocated += grow
	return nil
}

// noSpace puts ErrNoSpace into the chain of an error that says so in the words of
// the operating system.
func noSpace(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

func (t *trackedFile) close() {
	if t.f != nil {
		t.f.Close()
		t.f = nil
	}
}
