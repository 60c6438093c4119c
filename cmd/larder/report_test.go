package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestReportPrintsErrorAndHintAndChoosesTheExitCode(t *testing.T) {
	plain := errors.New("port 3128 is in use")
	for _, tc := range []struct {
		name string
		err  error
		code int
		text string
	}{
		{"no error", nil, 0, ""},
		{"an error", plain, 1, "larder: error: port 3128 is in use\n"},
		{"an error with a hint", withHint(plain, "use --listen"), 1, "larder: error: port 3128 is in use\nlarder: hint: use --listen\n"},
		{"a hint below other layers", fmt.Errorf("start: %w", withHint(plain, "use --listen")), 1, "larder: error: start: port 3128 is in use\nlarder: hint: use --listen\n"},
		{"a usage error", usageError(withHint(plain, "h")), 2, "larder: error: port 3128 is in use\nlarder: hint: h\n"},
		{"the child's code", &exitError{code: 42}, 42, ""},
		{"joined errors", errors.Join(withHint(plain, "h"), errors.New("also this")), 1, "larder: error: port 3128 is in use\nalso this\nlarder: hint: h\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			if code := report(&out, tc.err); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			if out.String() != tc.text {
				t.Errorf("printed %q, want %q", out.String(), tc.text)
			}
		})
	}
}
