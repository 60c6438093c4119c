package auth

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxFile bounds a file of credentials, far above a line for each of 100,000
	// users.
	maxFile = 32 << 20
	// maxUser is the length of a name in bytes.
	maxUser = 255
)

// FileError is what is wrong with a file of credentials.
type FileError struct {
	Path string
	Line int // 0: the file as a whole
	Why  string
	Do   string // what to do about it, "" if that is plain
}

// Error names the file and its line. It quotes nothing of the line, which may hold
// a credential.
func (e *FileError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("credentials in %s: %s", e.Path, e.Why)
	}
	return fmt.Sprintf("credentials in %s, line %d: %s", e.Path, e.Line, e.Why)
}

// Hint says what to do.
func (e *FileError) Hint() string { return e.Do }

// readFile reads a file that none but its owner and group may read, and none but
// its owner may write.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, &FileError{Path: path, Why: "not a regular file"}
	}
	if perm := info.Mode().Perm(); perm&^0o640 != 0 {
		return nil, &FileError{
			Path: path, Why: fmt.Sprintf("mode %04o lets others in", perm),
			Do: "chmod 0600 " + path + " (0640 if a group shall read it)",
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	if len(b) > maxFile {
		return nil, &FileError{Path: path, Why: fmt.Sprintf("larger than %d MiB", maxFile>>20)}
	}
	return b, nil
}

// eachLine hands over the name and the rest of each line that says something. Lines
// that begin with # do not.
func eachLine(path string, text []byte, each func(user, rest string) (why, do string)) error {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(make([]byte, 4096), 4096)
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimRight(lines.Text(), " \t\r")
		if line == "" || line[0] == '#' {
			continue
		}
		user, rest, ok := strings.Cut(line, ":")
		why, do := "", ""
		switch {
		case !ok:
			why, do = "no colon behind the name", "write NAME:CREDENTIAL"
		case !validUser(user):
			why = "the name must be 1 to 255 bytes of text without control characters and not *"
		default:
			why, do = each(user, rest)
		}
		if why != "" {
			return &FileError{path, n, why, do}
		}
	}
	if lines.Err() != nil {
		return &FileError{Path: path, Line: n + 1, Why: "longer than 4 KiB"}
	}
	return nil
}

// validUser accepts names that a policy can name and a log can hold. * stands for
// every user there.
func validUser(s string) bool {
	return s != "" && s != "*" && len(s) <= maxUser && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(c rune) bool { return c == ':' || unicode.IsControl(c) })
}
