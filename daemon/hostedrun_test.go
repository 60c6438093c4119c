package daemon

import (
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// acceptAll is a proxy that does nothing with its connections.
func acceptAll(conns chan<- net.Conn) func(net.Listener, func(Exchange)) error {
	return func(l net.Listener, _ func(Exchange)) error {
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			conns <- c
		}
	}
}

// The proxy is done with an exchange only after the client, which has all it
// wants: a store writes to a slow disk, a tunnel ends after its connections.
func TestFinishCountsWhatIsObservedUntilServeReturns(t *testing.T) {
	finishing := make(chan struct{})
	serve := func(l net.Listener, observe func(Exchange)) error {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		c.Close()
		if _, err = l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v, want the port closed", err)
		}
		close(finishing)
		time.Sleep(serveWait + 300*time.Millisecond) // the disk
		observe(Exchange{URL: "late", Class: classMiss, UpstreamBytes: 7})
		return err
	}
	run, err := openRun(RunRequest{}, t.TempDir(), newGuard(0), serve, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer run.close()
	client, err := net.Dial("tcp", run.port.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Fatal("not accepted")
	}
	sum := run.finish(t.Context(), finishWait)
	<-finishing
	if sum.Misses != 1 || sum.UpstreamBytes != 7 || sum.Cut != 0 {
		t.Errorf("%+v, want the late exchange in it", sum)
	}
	if diff := cmp.Diff([]string{"late"}, listed(t, run.account)); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

// What comes when the sums are out is in neither, for the two are one account.
func TestSumsAndListAgreeAfterFinish(t *testing.T) {
	end := make(chan struct{})
	var late func(Exchange)
	serve := func(l net.Listener, observe func(Exchange)) error {
		late = observe
		observe(Exchange{URL: "one", Class: classHit})
		<-end
		return net.ErrClosed
	}
	run, err := openRun(RunRequest{}, t.TempDir(), newGuard(0), serve, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "one is booked", func() bool { return run.account.summary().Requests == 1 })
	sum := run.finish(t.Context(), time.Millisecond)
	late(Exchange{URL: "two", Class: classHit})
	if got := listed(t, run.account); int64(len(got)) != sum.Requests || sum != run.finish(t.Context(), 0) {
		t.Errorf("%d are listed, and the sums say %d", len(got), sum.Requests)
	}
	close(end)
	run.close()
}

// The proxy needs more of a connection than net.Conn: half-close and splice.
func TestConnectionsOfARunAreWholeTCPConnections(t *testing.T) {
	conns := make(chan net.Conn)
	run, err := openRun(RunRequest{}, t.TempDir(), newGuard(0), acceptAll(conns), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer run.close()
	client, err := net.Dial("tcp", run.port.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c := <-conns
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
	if n, err := client.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d, %v after CloseWrite; want the end", n, err)
	}
	if n := run.port.cut(); n != 1 {
		t.Errorf("cut %d connections, want 1", n)
	}
	if err := c.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection was not closed: %v", err)
	}
}
