package tests

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what ought to happen at once. It is
// long because CI machines stall.
const patience = 30 * time.Second

// service is a running "larder serve".
type service struct {
	*instance
	cmd   *exec.Cmd
	proxy string // host:port
	admin string // host:port
	done  chan struct{}

	mu   sync.Mutex // guards logs
	logs []logLine
}

// logLine is a record of larder's log.
type logLine struct {
	Msg    string `json:"msg"`
	Level  string `json:"level"`
	Listen string `json:"listen"`
	Admin  string `json:"admin"`
	raw    string
}

// serve starts "larder serve" and waits until it accepts connections. It is
// killed when the test ends, if it still runs.
func (in *instance) serve(t testing.TB, flags ...string) *service {
	t.Helper()
	s := in.start(t, append([]string{"serve"}, flags...)...)
	ready := s.waitLog(t, func(l logLine) bool { return l.Msg == "serving" })
	s.proxy, s.admin = ready.Listen, ready.Admin
	return s
}

// startSigner starts "larder ca serve" and returns its address.
func (in *instance) startSigner(t testing.TB, args ...string) string {
	t.Helper()
	s := in.start(t, args...)
	return s.waitLog(t, func(l logLine) bool { return l.Msg == "signing" }).Listen
}

// start starts a larder that serves until it is ended, with its log in JSON.
func (in *instance) start(t testing.TB, args ...string) *service {
	t.Helper()
	argv := append(args, "--config", in.config, "--state", in.state, "--log-format", "json")
	s := &service{instance: in, cmd: exec.Command(in.larder, argv...), done: make(chan struct{})}
	s.cmd.Dir = in.dir
	s.cmd.Env = hermetic(in.dir)
	// A test binary that dies must not leave a larder behind.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := s.cmd.StderrPipe()
	must(t, err)
	must(t, s.cmd.Start())
	go func() { // ends with the process
		defer close(s.done)
		s.readLog(stderr)
		_ = s.cmd.Wait() // the tests look at ProcessState
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // it may have ended already
		<-s.done
		if t.Failed() {
			t.Logf("log of larder %v:\n%s", args, s.log())
		}
	})
	return s
}

func (s *service) readLog(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := logLine{raw: lines.Text()}
		// What is no JSON, such as a panic, has only its raw text.
		_ = json.Unmarshal(lines.Bytes(), &line)
		s.mu.Lock()
		s.logs = append(s.logs, line)
		s.mu.Unlock()
	}
}

func (s *service) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, l := range s.logs {
		b.WriteString(l.raw + "\n")
	}
	return b.String()
}

// waitLog waits for a log line that matches.
func (s *service) waitLog(t testing.TB, match func(logLine) bool) logLine {
	t.Helper()
	var found logLine
	ok := eventually(func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, l := range s.logs {
			if match(l) {
				found = l
				return true
			}
		}
		return false
	}, s.done)
	if !ok {
		t.Fatalf("larder did not log what was expected:\n%s", s.log())
	}
	return found
}

// eventually polls until the condition holds; it gives up when stop closes and
// the condition still does not hold, or when patience is over.
func eventually(condition func() bool, stop <-chan struct{}) bool {
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if condition() {
			return true
		}
		select {
		case <-tick.C:
		case <-stop:
			return condition()
		case <-deadline:
			return false
		}
	}
}

// signal sends a signal to larder.
func (s *service) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	must(t, s.cmd.Process.Signal(sig))
}

// wait waits for the end of larder and returns its exit code, -1 after a signal.
func (s *service) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-s.done:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("larder has not ended after %v", patience)
		return 0
	}
}

// roots are what a client of larder trusts: larder's root alone.
func (in *instance) roots(t testing.TB) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(readFile(t, filepath.Join(in.state, "trust", "ca.pem")))) {
		t.Fatal("trust/ca.pem holds no certificate")
	}
	return pool
}

// client is an HTTP client with connections of its own that goes through larder.
func (s *service) client(t testing.TB) *http.Client {
	t.Helper()
	transport := &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: s.proxy}),
		TLSClientConfig: &tls.Config{RootCAs: s.roots(t)},
		// Bodies are wanted as larder sends them.
		DisableCompression: true,
		ReadBufferSize:     64 << 10,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: commandLimit}
}

// get fetches a URL through larder and reads the whole body.
func get(t testing.TB, c *http.Client, target string) (*http.Response, []byte) {
	t.Helper()
	res, err := c.Get(target)
	must(t, err)
	defer res.Body.Close()
	return res, readAll(t, res.Body)
}

// dialTunnel opens a CONNECT through larder and returns the connection behind it.
func (s *service) dialTunnel(t testing.TB, authority string) net.Conn {
	t.Helper()
	conn, err := s.connect(authority)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// connect opens a CONNECT through larder, for goroutines that cannot end a test.
func (s *service) connect(authority string) (*net.TCPConn, error) {
	conn, err := net.Dial("tcp", s.proxy)
	if err != nil {
		return nil, err
	}
	// One byte at a time: what follows the header is the other side's.
	var head strings.Builder
	err = errors.Join(conn.SetDeadline(time.Now().Add(patience)), writeConnect(conn, authority))
	for one := make([]byte, 1); err == nil && !strings.HasSuffix(head.String(), "\r\n\r\n"); head.Write(one) {
		_, err = io.ReadFull(conn, one)
	}
	if status, _, _ := strings.Cut(head.String(), "\r\n"); err != nil || !strings.Contains(status, " 200") {
		_ = conn.Close()
		return nil, fmt.Errorf("CONNECT %s: %w after %q", authority, err, head.String())
	}
	return conn.(*net.TCPConn), nil
}

func writeConnect(w io.Writer, authority string) error {
	_, err := io.WriteString(w, "CONNECT "+authority+" HTTP/1.1\r\nHost: "+authority+"\r\n\r\n")
	return err
}

// anonymousMemory is the anonymous resident memory of a process in bytes.
func anonymousMemory(t testing.TB, pid string) int64 {
	t.Helper()
	f, err := os.Open(filepath.Join("/proc", pid, "status"))
	must(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if field, ok := strings.CutPrefix(lines.Text(), "RssAnon:"); ok {
			kib := strings.TrimSuffix(strings.TrimSpace(field), " kB")
			return parseInt(t, kib) << 10
		}
	}
	return -1
}
