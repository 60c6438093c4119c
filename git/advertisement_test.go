package git

import (
	"strings"
	"testing"
)

func TestAdvertises(t *testing.T) {
	t.Parallel()
	service := lines("# service=git-upload-pack\n", "0000")
	for _, tt := range []struct {
		name, body string
		want       bool
	}{
		{"refs", service + lines(one+" HEAD\x00multi_ack\n", "0000"), true},
		{"none yet", service + lines(strings.Repeat("0", 40)+" capabilities^{}\x00multi_ack\n", "0000"), true},
		{"version 1", service + lines("version 1\n", one+" HEAD\x00\n", "0000"), true},
		{"version 2", lines("version 2\n", "agent=git/2\n", "0000"), true},
		{"version 2 with the service", service + lines("version 2\n"), true},
		{"a refusal", service + lines("ERR FATAL: R any r u DENIED by fallthru", "0000"), false},
		{"a refusal of version 2", lines("ERR no"), false},
		{"another service", lines("# service=git-receive-pack\n", "0000", one+" HEAD\x00"), false},
		{"the service alone", service, false},
		{"the service without its end", lines("# service=git-upload-pack\n", one+" HEAD"), false},
		{"nothing", "", false},
		{"a page", "<!DOCTYPE html>", false},
	} {
		if got := Advertises(strings.NewReader(tt.body)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func FuzzAdvertises(f *testing.F) {
	f.Add(lines("# service=git-upload-pack\n", "0000", "ERR no"))
	f.Add(lines("version 2\n", "0000"))
	f.Fuzz(func(t *testing.T, body string) {
		if Advertises(strings.NewReader(body)) && strings.HasPrefix(body, lines("ERR ")) {
			t.Error("a refusal advertises")
		}
	})
}
