package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Exit codes of larder itself. "larder run" otherwise exits as its command did.
const (
	exitFailure = 1 // something failed while running
	exitUsage   = 2 // bad flags, arguments or configuration
)

// exitError ends the program with a code of its own; with a nil Err nothing is
// printed, because the code is the child's and the child has had its say.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError marks err as the caller's mistake (exit code 2).
func usageError(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: exitUsage, err: err}
}

// hintError adds what to do to what went wrong.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }
func (e *hintError) Hint() string  { return e.hint }

func withHint(err error, format string, args ...any) error {
	return &hintError{err: err, hint: fmt.Sprintf(format, args...)}
}

// hinter is what an error of any package offers when it knows the way out.
type hinter interface{ Hint() string }

// report prints err in the form that operators grep for and returns the exit
// code. Only the outermost hint is printed: it was added last, with the most
// knowledge of what the user was doing.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	code := exitFailure
	if e, ok := errors.AsType[*exitError](err); ok {
		code = e.code
		if e.err == nil {
			return code
		}
		err = e.err
	}
	fmt.Fprintf(w, "larder: error: %s\n", strings.TrimRight(err.Error(), "\n"))
	var h hinter
	if errors.As(err, &h) && h.Hint() != "" {
		fmt.Fprintf(w, "larder: hint: %s\n", h.Hint())
	}
	return code
}
