package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

const (
	// maxLog is how long the log may grow before it moves aside. With the one
	// that moved, there are at most about twice as many bytes.
	maxLog = 1 << 20
	// tailLog is how much of the end of a log is looked at for an error.
	tailLog = 64 << 10
)

// openLog opens the log for a daemon to be spawned, and says where it will begin
// to write.
func openLog(path string) (f *os.File, start int64, err error) {
	if fi, err := os.Stat(path); err == nil && fi.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, 0, folderError(path, err)
		}
	}
	// O_APPEND lets the daemon cut the file short without leaving a hole.
	f, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, folderError(path, err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("log %s: %w", path, err)
	}
	return f, fi.Size(), nil
}

// trimOwnLog keeps the log of this process bounded if its standard error goes
// there: a long log is copied to path.1 and emptied. Lines that are written
// between the two steps are lost.
func trimOwnLog(path string) error {
	return trimLog(path, os.Stderr, maxLog)
}

func trimLog(path string, out *os.File, limit int64) error {
	there, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	mine, err := out.Stat()
	if err != nil || !os.SameFile(there, mine) || there.Size() <= limit {
		return err
	}
	src, err := os.Open(path)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(path+".1", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	// Something that floods the log must not fill the disk with the copy.
	from := max(0, there.Size()-limit)
	_, err = io.Copy(dst, io.NewSectionReader(src, from, there.Size()-from))
	return errors.Join(err, dst.Close(), os.Truncate(path, 0))
}

// logTail returns the last lines that were written to the log since it had start
// bytes.
func logTail(path string, start int64) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil
	}
	if fi.Size() < start {
		start = 0 // trimmed since
	}
	from := max(start, fi.Size()-tailLog)
	text, err := io.ReadAll(io.NewSectionReader(f, from, fi.Size()-from))
	if err != nil {
		return nil
	}
	var lines []string
	for line := range bytes.Lines(text) {
		if line = bytes.TrimRight(line, "\r\n\t "); len(line) > 0 {
			lines = append(lines, string(line))
		}
	}
	return lines
}
