package ca

import "fmt"

// A FileError says what is wrong with a file or folder of the authority and
// what an operator can do about it.
type FileError struct {
	Path    string // the file or folder
	Problem string // what is wrong with it, to be read after the path
	Remedy  string // what to do, often a command to paste
	Err     error  // the cause, or nil
}

func (e *FileError) Error() string {
	if e.Err == nil {
		return e.Path + " " + e.Problem
	}
	return fmt.Sprintf("%s %s: %v", e.Path, e.Problem, e.Err)
}

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// Hint returns what to do about it.
func (e *FileError) Hint() string { return e.Remedy }

// A NameError says why a name gets no certificate.
type NameError struct {
	Name   string // as it was asked for
	Reason string
	Remedy string // what to do, or ""
}

func (e *NameError) Error() string {
	return fmt.Sprintf("no certificate for %.300q: %s", e.Name, e.Reason)
}

// Hint returns what to do about it, or "".
func (e *NameError) Hint() string { return e.Remedy }
