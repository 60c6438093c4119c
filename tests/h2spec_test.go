package tests

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// h2specExceptions are the cases that larder fails, by section and number, each
// with the reason. A case that passes and stands here fails the test.
var h2specExceptions = map[string]string{
	"http2/6.5.3/1":   "net/http ends a connection whose SETTINGS frame names a setting twice: nobody sends that but for a flood",
	"http2/8.1.2.2/1": "net/http answers 400 before it resets the stream, which RFC 9113, Section 8.1.1 allows: a field of the connection is there",
	"http2/8.1.2.2/2": "net/http answers 400 before it resets the stream, which RFC 9113, Section 8.1.1 allows: TE is not trailers",
}

// h2specTimeout is how long a case waits for an answer; those above wait that
// long in vain.
const h2specTimeout = 10 * time.Second

// TestH2Spec runs the public conformance suite of HTTP/2 and HPACK, its strict
// cases too, against the server of opened connections.
func TestH2Spec(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	origins.Handle("localhost", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
		fmt.Fprintln(w, "hello")
	}))
	front := listenForH2Spec(t)
	s := newInstance(t, origins, fmt.Sprintf("    \"localhost:%d\": %q\nrules: [{name: all, hosts: [localhost], action: pass}]\n",
		front.port(), origins.TLSAddr())).serve(t)
	front.join(s)
	c := &config.Config{
		Host: "localhost", Port: front.port(), Path: "/", TLS: true, Insecure: true, // there is no way to give it roots
		Timeout: h2specTimeout, MaxHeaderLen: 4000, Strict: true,
	}
	cases := map[string]bool{}
	for _, suite := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		runH2Spec(t, c, suite, cases)
	}
	if len(cases) < 140 {
		t.Errorf("%d cases were run", len(cases))
	}
	for name := range h2specExceptions {
		if !cases[name] {
			t.Errorf("%s stands among the exceptions and is no case", name)
		}
	}
}

// runH2Spec runs a group of cases and those below, and notes their names.
func runH2Spec(t *testing.T, c *config.Config, g *spec.TestGroup, cases map[string]bool) {
	for i, tc := range append(g.Tests, g.StrictTests...) {
		name := fmt.Sprintf("%s/%d", g.ID(), i+1)
		cases[name] = true
		t.Run(name, func(t *testing.T) {
			must(t, tc.Test(c, i+1))
			why, excepted := h2specExceptions[name]
			switch {
			case tc.Result.Skipped:
				t.Skip(tc.Desc)
			case tc.Result.Failed && !excepted:
				t.Errorf("%s: %s\n%v", tc.Desc, tc.Requirement, tc.Result.Error)
			case !tc.Result.Failed && excepted:
				t.Errorf("%s: passes, and stands among the exceptions: %s", tc.Desc, why)
			}
		})
	}
	for _, below := range g.Groups {
		runH2Spec(t, c, below, cases)
	}
}

// h2specFront is what h2spec dials, which knows no proxies: each connection is
// joined to a CONNECT through larder that names the front itself, for that is
// what h2spec puts in :authority.
type h2specFront struct {
	t        *testing.T
	listener net.Listener
	conns    sync.WaitGroup
}

func listenForH2Spec(t *testing.T) *h2specFront {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	f := &h2specFront{t: t, listener: l}
	t.Cleanup(func() {
		_ = l.Close() // ends the accepting
		f.conns.Wait()
	})
	return f
}

func (f *h2specFront) port() int { return f.listener.Addr().(*net.TCPAddr).Port }

// join begins to accept.
func (f *h2specFront) join(s *service) {
	f.conns.Go(func() { // ends with the listener
		for {
			c, err := f.listener.Accept()
			if err != nil {
				return
			}
			f.conns.Go(func() { f.joinOne(s, c.(*net.TCPConn)) }) // ends with h2spec's case
		}
	})
}

// joinOne copies both ways. What breaks off on one side does on the other: h2spec
// may be writing what nobody reads any more.
func (f *h2specFront) joinOne(s *service, c *net.TCPConn) {
	defer c.Close()
	larder, err := s.connect(fmt.Sprintf("localhost:%d", f.port()))
	if err != nil {
		f.t.Error(err)
		return
	}
	defer larder.Close()
	half := func(to, from *net.TCPConn) {
		_, err := io.Copy(to, from)
		if errors.Join(err, to.CloseWrite()) != nil {
			_ = to.Close()
			_ = from.Close()
		}
	}
	var both sync.WaitGroup
	both.Go(func() { half(larder, c) })
	both.Go(func() { half(c, larder) })
	both.Wait()
}
