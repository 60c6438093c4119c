package tests

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestRefusesToStart makes each thing wrong that an operator gets wrong. Larder
// must say in one line which it is, in another what to do, and exit non-zero.
func TestRefusesToStart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, in *instance) // after a first good start
		flags []string
		code  int
		says  []string // in the error line
		hint  string   // in the hint
	}{
		{
			name: "config that is no YAML",
			spoil: func(t *testing.T, in *instance) {
				writeFile(t, in.dir, "larder.yaml", "listen: [\n")
			},
			code: 2,
			says: []string{"larder.yaml:"},
		},
		{
			name: "config with an unknown key",
			spoil: func(t *testing.T, in *instance) {
				writeFile(t, in.dir, "larder.yaml", "listne: 127.0.0.1:0\n")
			},
			code: 2,
			says: []string{"larder.yaml:1:1", "listne", "listen"},
		},
		{
			name: "config that is not there",
			spoil: func(t *testing.T, in *instance) {
				must(t, os.Remove(in.config))
			},
			code: 2,
			says: []string{"larder.yaml", "no such file"},
		},
		{
			name: "root key that others can read",
			spoil: func(t *testing.T, in *instance) {
				must(t, os.Chmod(filepath.Join(in.state, "ca", "root.key"), 0o644))
			},
			code: 1,
			says: []string{"ca/root.key", "0644"},
			hint: "chmod",
		},
		{
			name: "issuing key that others can read",
			spoil: func(t *testing.T, in *instance) {
				must(t, os.Chmod(filepath.Join(in.state, "ca", "issuing.key"), 0o644))
			},
			code: 1,
			says: []string{"ca/issuing.key", "0644"},
			hint: "chmod",
		},
		{
			name: "root certificate that is damaged",
			spoil: func(t *testing.T, in *instance) {
				writeFile(t, in.state, "ca/root.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
			},
			code: 1,
			says: []string{"ca/root.crt"},
		},
		{
			name: "state folder below a file",
			spoil: func(t *testing.T, in *instance) {
				in.state = filepath.Join(in.config, "state")
			},
			code: 1,
			says: []string{"larder.yaml"},
			hint: "--state",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in := newInstance(t, startOrigins(t), "")
			first := in.serve(t)
			first.signal(t, syscall.SIGTERM)
			if code := first.wait(t); code != 0 {
				t.Fatalf("first start ended with exit code %d", code)
			}
			c.spoil(t, in)
			in.wantRefusal(t, c.code, c.says, c.hint, c.flags...)
		})
	}
}

// TestRefusesAddressInUse holds the address that larder wants.
func TestRefusesAddressInUse(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--listen", "--admin"} {
		t.Run(flag, func(t *testing.T) {
			t.Parallel()
			taken, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			defer taken.Close()
			in := newInstance(t, startOrigins(t), "")
			in.wantRefusal(t, 1, []string{taken.Addr().String(), "in use"}, flag, flag, taken.Addr().String())
		})
	}
}

// TestRefusesReadOnlyState starts larder, as a user who may not write there, on a
// folder that exists.
func TestRefusesReadOnlyState(t *testing.T) {
	t.Parallel()
	in := newInstance(t, startOrigins(t), "")
	in.state = mkdir(t, in.dir, "state")
	must(t, os.Chmod(in.state, 0o555))
	var as *syscall.Credential
	if os.Getuid() == 0 {
		// Permissions mean nothing to root. The program has to be within reach of
		// the user whom they bind.
		must(t, os.Chmod(filepath.Dir(in.larder), 0o755))
		as = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	res := command{
		dir:  in.dir,
		argv: []string{in.larder, "serve", "--config", in.config, "--state", in.state},
		as:   as,
	}.run(t)
	checkRefusal(t, res, 1, []string{in.state, "permission denied"}, "--state")
}

// TestRefusesSecondServe starts two larders on one state folder.
func TestRefusesSecondServe(t *testing.T) {
	t.Parallel()
	in := newInstance(t, startOrigins(t), "")
	first := in.serve(t)
	in.wantRefusal(t, 1, []string{fmt.Sprint(first.cmd.Process.Pid)}, "")
}

// wantRefusal starts "larder serve" and wants it to end with an error.
func (in *instance) wantRefusal(t *testing.T, code int, says []string, hint string, flags ...string) {
	t.Helper()
	argv := append([]string{in.larder, "serve", "--config", in.config, "--state", in.state, "--log-level", "error"}, flags...)
	checkRefusal(t, command{dir: in.dir, argv: argv}.run(t), code, says, hint)
}

// checkRefusal wants an error line that says something, and a hint.
func checkRefusal(t *testing.T, res result, code int, says []string, hint string) {
	t.Helper()
	if res.code != code {
		t.Errorf("exit code %d, want %d", res.code, code)
	}
	message, advice, hinted := strings.Cut(res.stderr, "larder: hint: ")
	if !strings.HasPrefix(message, "larder: error: ") {
		t.Fatalf("no error line: %v", res)
	}
	// An error of a file shows the line of the file below.
	if code != 2 && strings.Count(message, "\n") != 1 {
		t.Errorf("error is not one line:\n%s", message)
	}
	for _, want := range says {
		if !strings.Contains(message, want) {
			t.Errorf("error does not name %q:\n%s", want, res.stderr)
		}
	}
	if !hinted && code != 2 {
		t.Errorf("no hint: %v", res)
	}
	if !strings.Contains(advice, hint) {
		t.Errorf("hint does not name %q:\n%s", hint, res.stderr)
	}
	if strings.Contains(res.stderr, "goroutine ") {
		t.Errorf("larder panicked:\n%s", res.stderr)
	}
}
