package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrNotRunning is returned by Connect when no daemon lives and
// StartOptions.Command is empty.
var ErrNotRunning = errors.New("no background larder is running")

// ErrLost is wrapped by the methods of Run when the daemon that had opened the
// run is gone: it crashed, was killed, or was made to end.
var ErrLost = errors.New("the background larder ended during the run")

// Error is a failure that the user can mend.
type Error struct {
	Err  error
	hint string
}

// Error says what was attempted on what, and why it failed.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint is one sentence that says what to do.
func (e *Error) Hint() string { return e.hint }

func hinted(hint, format string, args ...any) *Error {
	return &Error{Err: fmt.Errorf(format, args...), hint: hint}
}

// HeldError is returned by Server.Run when another larder has the state folder.
type HeldError struct {
	Lock   string // the lock file
	Holder string // who has it, such as "pid 4711"
	// Answers tells a daemon that works from one that holds the lock and does
	// not answer on its socket.
	Answers bool
}

// Error names the holder and the lock file.
func (e *HeldError) Error() string {
	if e.Answers {
		return fmt.Sprintf("lock %s: a background larder is already running (%s)", e.Lock, e.Holder)
	}
	return fmt.Sprintf("lock %s: held by %s, which does not answer", e.Lock, e.Holder)
}

// Hint is one sentence that says what to do.
func (e *HeldError) Hint() string {
	if e.Answers {
		return "use it (larder run does), or give this one a folder of its own with --state"
	}
	return "if it hangs, end it with kill -9; or use another folder with --state"
}

// VersionError is returned by Connect when a daemon of another build has runs
// under way, so that it cannot be replaced now.
type VersionError struct {
	Running string // its build
	Wanted  string // the client's
	PID     int
	Runs    int
}

// Error names both builds.
func (e *VersionError) Error() string {
	return fmt.Sprintf("the background larder (pid %d) is build %q with %d runs under way, this is build %q",
		e.PID, e.Running, e.Runs, e.Wanted)
}

// Hint is one sentence that says what to do.
func (e *VersionError) Hint() string {
	return "wait until its runs have ended, then it is replaced; or use another folder with --state"
}

// StartError is returned by Connect when the daemon that it had started died, or
// did not answer in time.
type StartError struct {
	Err     error    // what became of the process
	LogFile string   // where its log is
	Log     []string // the lines that it wrote, the last 64 KiB of them
}

// What a daemon prints last, as every larder does, and what Go prints for it.
const (
	errorLine = "larder: error: "
	hintLine  = "larder: hint: "
	panicLine = "panic: "
	fatalLine = "fatal error: "
)

// shownLines of a log are shown when they are not known to be an error.
const shownLines = 8

// Error is the daemon's own error where it wrote one, and otherwise one line:
// what became of the process, and what it wrote last.
func (e *StartError) Error() string {
	const what = "start the background larder: "
	if i := lastWith(e.Log, errorLine); i >= 0 {
		said := slices.Clone(e.Log[i:])
		said[0] = strings.TrimPrefix(said[0], errorLine)
		if end := slices.IndexFunc(said, isHint); end > 0 {
			said = said[:end]
		}
		return what + strings.Join(said, "\n")
	}
	shown := e.Log[max(0, len(e.Log)-shownLines):]
	if i := max(lastWith(e.Log, panicLine), lastWith(e.Log, fatalLine)); i >= 0 {
		shown = e.Log[i:min(i+shownLines, len(e.Log))]
	}
	if len(shown) == 0 {
		return what + e.Err.Error()
	}
	return what + e.Err.Error() + ": " + strings.Join(shown, " | ")
}

// Unwrap returns what became of the process.
func (e *StartError) Unwrap() error { return e.Err }

// Hint is the daemon's own hint where it wrote one.
func (e *StartError) Hint() string {
	if i := lastWith(e.Log, hintLine); i >= 0 {
		return strings.TrimPrefix(e.Log[i], hintLine)
	}
	return "see " + e.LogFile
}

func isHint(line string) bool { return strings.HasPrefix(line, hintLine) }

// lastWith returns the index of the last line that begins with prefix, or -1.
func lastWith(lines []string, prefix string) int {
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.HasPrefix(lines[i], prefix) {
			return i
		}
	}
	return -1
}
