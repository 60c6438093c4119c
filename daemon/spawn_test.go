package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// runDaemonProcess runs a daemon in the foreground and returns what it said.
func runDaemonProcess(t *testing.T, r role) (string, error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(exe, r.args("test-daemon")...).CombinedOutput()
	return string(out), err
}

func TestDaemonIsDetached(t *testing.T) {
	r := newRole(t)
	pid := pidOf(t, connect(t, r))
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session %d, %v; want its own, %d", sid, err, pid)
	}
	if pgid, err := unix.Getpgid(pid); err != nil || pgid != pid {
		t.Errorf("process group %d, %v; want its own, %d", pgid, err, pid)
	}
	proc := fmt.Sprintf("/proc/%d/", pid)
	for link, want := range map[string]string{
		"cwd": "/", "fd/0": os.DevNull, "fd/1": r.paths().Log(), "fd/2": r.paths().Log(),
	} {
		if got, err := os.Readlink(proc + link); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", link, got, err, want)
		}
	}
}

// Whoever reads the other end of a pipe waits for the last process that has it.
func TestDaemonKeepsNoInheritedDescriptor(t *testing.T) {
	r := newRole(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	p := startClient(t, r, write)
	write.Close()
	pid, _ := p.started(t)
	// The client itself has it still, as has the command it would run.
	flags, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/3", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(flags), "flags:\t01\n") {
		t.Errorf("descriptor 3 of the client is %q, want it open for writing and not close-on-exec", flags)
	}
	p.stdin.Close()
	if err := p.Wait(); err != nil {
		t.Fatalf("client: %v: %s", err, p.stderr)
	}
	if _, err := read.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read: %v, want the end of the pipe", err)
	}
	if err := unix.Kill(pid, 0); err != nil {
		t.Errorf("the daemon, pid %d, ended with its client: %v", pid, err)
	}
}

func TestDaemonThatDiesAtItsStart(t *testing.T) {
	for _, test := range []struct {
		name    string
		fails   string
		command []string
		want    string
		hint    string
	}{
		{
			name:  "with an error and a hint",
			fails: "ca key /x: mode 0644",
			want:  "start the background larder: ca key /x: mode 0644",
			hint:  "chmod 600 /x",
		},
		{
			name:    "with an error of several lines",
			command: []string{"/bin/sh", "-c", "printf 'time=1 msg=x\\nlarder: error: f.yaml:1: a\\n  ^\\nf.yaml:2: b\\nlarder: hint: h\\n'; exit 2"},
			want:    "start the background larder: f.yaml:1: a\n  ^\nf.yaml:2: b",
			hint:    "h",
		},
		{
			name:    "with a panic",
			command: []string{"/bin/sh", "-c", "echo 'panic: oh no'; for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done; exit 2"},
			want:    "start the background larder: it ended with exit code 2: panic: oh no | line 1 | line 2 | line 3 | line 4 | line 5 | line 6 | line 7",
			hint:    "see ",
		},
		{
			name:    "without a word",
			command: []string{"/bin/sh", "-c", "exit 7"},
			want:    "start the background larder: it ended with exit code 7",
			hint:    "see ",
		},
		{
			name:    "with some lines",
			command: []string{"/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; done; exit 1"},
			want:    "start the background larder: it ended with exit code 1: line 3 | line 4 | line 5 | line 6 | line 7 | line 8 | line 9 | line 10",
			hint:    "see ",
		},
		{
			name:    "by a signal",
			command: []string{"/bin/sh", "-c", "echo going; kill -9 $$"},
			want:    "start the background larder: it was killed: killed: going",
			hint:    "see ",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRole(t)
			r.OpenFails, r.OpenHint = test.fails, test.hint
			if err := r.paths().Create(); err != nil {
				t.Fatal(err)
			}
			// What an earlier daemon has said is not this one's.
			if err := os.WriteFile(r.paths().Log(), []byte("larder: error: an old one\nlarder: hint: old\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			o := r.options(t)
			if test.command != nil {
				o.Command = test.command
			}
			_, err := Connect(t.Context(), o)
			start, ok := errors.AsType[*StartError](err)
			if !ok {
				t.Fatalf("Connect: %v, want a *StartError", err)
			}
			if start.Error() != test.want {
				t.Errorf("error:\n got %s\nwant %s", start, test.want)
			}
			if !strings.HasPrefix(start.Hint(), test.hint) {
				t.Errorf("hint: got %q, want %q", start.Hint(), test.hint)
			}
		})
	}
}

func TestCommandThatCannotBeRun(t *testing.T) {
	r := newRole(t)
	o := r.options(t)
	o.Command = []string{"/nowhere/larder", "daemon"}
	if _, err := Connect(t.Context(), o); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Connect: %v, want fs.ErrNotExist", err)
	}
}

func TestConnectWithoutCommandStartsNothing(t *testing.T) {
	r := newRole(t)
	o := r.options(t)
	o.Command = nil
	if _, err := Connect(t.Context(), o); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Connect: %v, want ErrNotRunning", err)
	}
	if _, err := os.Stat(r.State); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state folder was made: %v", err)
	}
}

// What one run's daemon has verified is served to all later runs, so no run's
// own trust may come into it.
func TestEnvironmentOfTheDaemonHasNoTrustOfTheCaller(t *testing.T) {
	got := environment([]string{
		"HOME=/h", "PATH=/bin", "XDG_CACHE_HOME=/c", "LARDER_X=1", "GOMEMLIMIT=1GiB",
		"https_proxy=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1", "RUNNER_TRACKING_ID=1",
		"SSL_CERT_FILE=/home/u/corp.pem", "SSL_CERT_DIR=/etc/corp", "AWS_SECRET_ACCESS_KEY=x",
		"GODEBUG=x509negativeserial=1,tlsrsakex=1",
	})
	want := []string{"HOME=/h", "PATH=/bin", "XDG_CACHE_HOME=/c", "LARDER_X=1", "GOMEMLIMIT=1GiB"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStartedDaemonHasNoTrustOfTheCaller(t *testing.T) {
	t.Setenv("SSL_CERT_FILE", "/nowhere/corp.pem")
	t.Setenv("SSL_CERT_DIR", "/nowhere")
	t.Setenv("GODEBUG", "tlsrsakex=1")
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pidOf(t, connect(t, newRole(t)))))
	if err != nil {
		t.Fatal(err)
	}
	for kv := range strings.SplitSeq(string(env), "\x00") {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "SSL_CERT") || name == "GODEBUG" {
			t.Errorf("the daemon has %s", kv)
		}
	}
}

func TestBuildIDTellsExecutablesApart(t *testing.T) {
	one, two := BuildID("1.0"), BuildID("1.0")
	if one != two || !strings.HasPrefix(one, "1.0 ") {
		t.Errorf("BuildID = %q and %q", one, two)
	}
}

func TestLongStatePath(t *testing.T) {
	r := newRole(t)
	r.State = filepath.Join(r.State, strings.Repeat("long/", 40), "state")
	if n := len(r.paths().Socket()); n <= 108 {
		t.Fatalf("the path has %d bytes only", n)
	}
	t.Setenv("TMPDIR", t.TempDir())
	c := connect(t, r)
	fetch(t, startRun(t, c), "hit", 1)
	kill(t, pidOf(t, c))
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary folder: %v, %v", left, err)
	}
}
