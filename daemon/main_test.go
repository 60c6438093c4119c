package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is also the daemon and the client that the tests start, since
// what is tested is what becomes of processes.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 {
		// Whatever goes wrong with the test, its processes end.
		defer time.AfterFunc(2*time.Minute, func() { os.Exit(3) }).Stop()
		var err error
		switch os.Args[1] {
		case "test-daemon":
			err = testDaemon(os.Args[2])
		case "test-client":
			err = testClient(os.Args[2])
		case "test-dial":
			err = testDial(os.Args[2])
		case "test-get":
			err = testGet(os.Args[2])
		default:
			os.Exit(m.Run())
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "larder: error: %v\n", err)
			var helpful interface{ Hint() string }
			if errors.As(err, &helpful) {
				fmt.Fprintf(os.Stderr, "larder: hint: %s\n", helpful.Hint())
			}
			os.Exit(1)
		}
		return
	}
	// A process built with -race would sleep a second before it ends.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}

// role is the argument of a test process, as JSON.
type role struct {
	State    string
	Build    string
	Idle     time.Duration
	Grace    time.Duration
	LockWait time.Duration
	// OpenFails is the error of Options.Open; Shout is printed before it.
	OpenFails, OpenHint string
	Shout               string
	// OpenWaits and CloseWaits are FIFOs: the daemon goes on when it has opened
	// them for reading, that is when the test opens them for writing.
	OpenWaits, CloseWaits string
	Upkeep                time.Duration
	FinishWait            time.Duration
	// Client only.
	Command []string
	Timeout time.Duration
}

func (r role) args(name string) []string {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return []string{name, string(b)}
}

func (r role) paths() Paths {
	return Paths{State: r.State, Store: r.State + "/store"}
}

func testDaemon(arg string) error {
	var r role
	if err := json.Unmarshal([]byte(arg), &r); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s, err := New(Options{
		Paths:    r.paths(),
		Build:    r.Build,
		Idle:     r.Idle,
		Grace:    r.Grace,
		LockWait: r.LockWait,
		Logger:   slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Open: func(context.Context) (Proxy, error) {
			fmt.Fprintf(os.Stderr, "opened by pid %d\n", os.Getpid())
			if r.Shout != "" {
				fmt.Fprintln(os.Stderr, r.Shout)
			}
			await(r.OpenWaits)
			if r.OpenFails != "" {
				return nil, &Error{Err: errors.New(r.OpenFails), hint: r.OpenHint}
			}
			return &testProxy{closeWaits: r.CloseWaits, dir: r.paths().Trust()}, nil
		},
	})
	if err != nil {
		return err
	}
	if r.Upkeep > 0 {
		s.upkeep = r.Upkeep
	}
	if r.FinishWait > 0 {
		s.finishWait = r.FinishWait
	}
	return s.Run(ctx)
}

// testClient is a larder run that says where its proxy is, and then lasts until
// its standard input ends.
func testClient(arg string) error {
	var r role
	if err := json.Unmarshal([]byte(arg), &r); err != nil {
		return err
	}
	ctx := context.Background()
	c, err := Connect(ctx, StartOptions{Paths: r.paths(), Build: r.Build, Command: r.Command, Timeout: r.Timeout})
	if err != nil {
		return err
	}
	run, err := c.StartRun(ctx, RunRequest{Label: "test"})
	if err != nil {
		return err
	}
	defer run.Close()
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%d %s\n", st.PID, run.ProxyAddr)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// testDial connects to a socket and expects to be thrown out.
func testDial(path string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer c.Close()
	n, err := c.Read(make([]byte, 1))
	if n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %d bytes, %v; want the end", n, err)
	}
	return nil
}

// testGet says what becomes of a request to a run's port, "served" or "cut". It
// speaks for itself: net/http's client has several errors for a connection that
// ends before it has been used, not all of which can be told from others.
func testGet(target string) error {
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", target, u.Host)
	if err == nil {
		_, err = http.ReadResponse(bufio.NewReader(c), nil)
	}
	switch {
	case err == nil:
		fmt.Println("served")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		fmt.Println("cut")
	default:
		return err
	}
	return nil
}

// await opens a FIFO, which takes until somebody opens its other end.
func await(fifo string) {
	if fifo == "" {
		return
	}
	if f, err := os.Open(fifo); err == nil {
		f.Close()
	}
}

// testProxy answers each request itself: /CLASS/BYTES. With the query "hold" it
// begins the body, and ends it when the client is gone.
type testProxy struct {
	closeWaits, dir string
}

func (p *testProxy) Trust(r RunRequest) (TrustFiles, func(), error) {
	if r.Label == "untrusted" {
		return TrustFiles{}, nil, &Error{Err: errors.New("no trust"), hint: "have some"}
	}
	released := func() { fmt.Fprintf(os.Stderr, "trust of %s released\n", r.Label) }
	return TrustFiles{Dir: p.dir, CA: p.dir + "/ca.pem"}, released, nil
}

func (p *testProxy) Close(context.Context) error {
	await(p.closeWaits)
	return nil
}

func (p *testProxy) Serve(l net.Listener, observe func(Exchange)) error {
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.URL.Path, "/")
		n, err := strconv.ParseInt(parts[2], 10, 64)
		if err != nil {
			panic(err)
		}
		x := Exchange{Start: time.Now(), Method: r.Method, URL: r.URL.String(), Class: parts[1], Status: 200, Bytes: n}
		switch x.Class {
		case classHit:
			x.CacheBytes = n
		case classMiss:
			x.UpstreamBytes = n
		}
		w.Header().Set("Content-Length", parts[2])
		if r.URL.RawQuery == "hold" {
			w.Header().Del("Content-Length")
		}
		if _, err := io.CopyN(w, zeros{}, n); err != nil {
			x.Err = err.Error()
		}
		if r.URL.RawQuery == "hold" {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
		observe(x)
	})}
	err := srv.Serve(l)
	// As mitm's does, it closes what is idle and waits for the rest.
	return errors.Join(err, srv.Shutdown(context.Background()))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
