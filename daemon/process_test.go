package daemon

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// newRole is a daemon of this test's own, which ends with the test at the latest.
func newRole(t *testing.T) role {
	t.Helper()
	dir, err := os.MkdirTemp("", "ld") // t.TempDir is too long for the usual socket path
	if err != nil {
		t.Fatal(err)
	}
	r := role{State: dir + "/s", Build: "one", Idle: time.Minute, Timeout: 30 * time.Second}
	t.Cleanup(func() {
		endDaemon(t, r)
		log, _ := os.ReadFile(r.paths().Log()) // none: nothing was started
		if t.Failed() || bytes.Contains(log, []byte("DATA RACE")) {
			t.Errorf("log of the daemon:\n%s", log)
		}
		os.RemoveAll(dir)
	})
	return r
}

// endDaemon ends the daemon of r, if there is one, and waits for the lock.
func endDaemon(t *testing.T, r role) {
	t.Helper()
	if st, err := askStatus(context.Background(), r.paths().Socket()); err == nil {
		kill(t, st.PID)
	}
}

// kill is kill -9, and waits for the end of a process that this one may or may
// not be the parent of.
func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
	ended(t, pid)
}

// ended waits until the process is no more.
func ended(t *testing.T, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d ends", pid), func() bool {
		var ws syscall.WaitStatus
		if got, _ := syscall.Wait4(pid, &ws, syscall.WNOHANG, nil); got == pid {
			return true
		}
		// Of a zombie its own parent will hear; here it is as good as gone.
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || bytes.Contains(stat, []byte(") Z "))
	})
}

// eventually polls what another process does; there is no event to wait for.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func (r role) options(t *testing.T) StartOptions {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return StartOptions{
		Paths:   r.paths(),
		Build:   r.Build,
		Command: append([]string{exe}, r.args("test-daemon")...),
		Timeout: r.Timeout,
	}
}

func connect(t *testing.T, r role) *Client {
	t.Helper()
	c, err := Connect(t.Context(), r.options(t))
	if err != nil {
		t.Fatalf("Connect: %v", err)
	}
	return c
}

func startRun(t *testing.T, c *Client) *Run {
	t.Helper()
	run, err := c.StartRun(t.Context(), RunRequest{Label: t.Name()})
	if err != nil {
		t.Fatalf("StartRun: %v", err)
	}
	t.Cleanup(func() { run.Close() })
	return run
}

func pidOf(t *testing.T, c *Client) int {
	t.Helper()
	st, err := c.Status(t.Context())
	if err != nil {
		t.Fatalf("Status: %v", err)
	}
	return st.PID
}

// fetch gets /CLASS/BYTES and perhaps a query from the run's port.
func fetch(t *testing.T, run *Run, class string, n int, query ...string) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Get(fmt.Sprintf("http://%s/%s/%d%s", run.ProxyAddr, class, n, strings.Join(query, "")))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.Copy(io.Discard, resp.Body); err != nil || got != int64(n) {
		t.Fatalf("fetched %d bytes (%v), want %d", got, err, n)
	}
}

// clientProcess is a process that has a run until its standard input ends.
type clientProcess struct {
	*exec.Cmd
	stdin  io.WriteCloser
	stderr *bytes.Buffer
	out    *bufio.Reader
}

func startClient(t *testing.T, r role, extra ...*os.File) *clientProcess {
	t.Helper()
	o := r.options(t)
	r.Command = o.Command
	p := &clientProcess{Cmd: exec.Command(o.Command[0], r.args("test-client")...), stderr: new(bytes.Buffer)}
	p.Stderr = p.stderr
	p.ExtraFiles = extra
	var err error
	if p.stdin, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.stdin.Close()
		_ = p.Wait() // a test that cares has waited
	})
	return p
}

// started waits for the run of the process.
func (p *clientProcess) started(t *testing.T) (daemon int, proxy string) {
	t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("client: %v; it said: %s", err, p.stderr)
	}
	if _, err := fmt.Sscan(line, &daemon, &proxy); err != nil {
		t.Fatalf("client said %q: %v", line, err)
	}
	return daemon, proxy
}

// logOf returns the daemon's log.
func logOf(t *testing.T, r role) string {
	t.Helper()
	b, err := os.ReadFile(r.paths().Log())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// refused waits until nobody listens on addr.
func refused(t *testing.T, addr string) {
	t.Helper()
	eventually(t, "port "+addr+" is freed", func() bool {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return true
		}
		c.Close()
		return false
	})
}

// fifo makes one, and returns what lets its reader go on.
func fifo(t *testing.T, name string) (path string, release func()) {
	t.Helper()
	path = t.TempDir() + "/" + name
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, func() {
		t.Helper()
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
}
