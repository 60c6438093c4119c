package daemon

import (
	"strings"
	"sync"
	"testing"
)

// opened counts the daemons that got as far as having the lock.
func opens(t *testing.T, r role) int {
	t.Helper()
	return strings.Count(logOf(t, r), "opened by pid")
}

func TestTwoAtOnceStartOne(t *testing.T) {
	for range 20 {
		r := newRole(t)
		one, two := startClient(t, r), startClient(t, r)
		pid1, port1 := one.started(t)
		pid2, port2 := two.started(t)
		if pid1 != pid2 || port1 == port2 {
			t.Errorf("daemons %d and %d, want one; ports %s and %s, want two", pid1, pid2, port1, port2)
		}
		if n := opens(t, r); n != 1 {
			t.Errorf("%d daemons were started, want 1", n)
		}
		kill(t, pid1)
	}
}

func TestManyAtOnceReplaceACrashedOne(t *testing.T) {
	r := newRole(t)
	kill(t, pidOf(t, connect(t, r)))
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			c, err := Connect(t.Context(), r.options(t))
			if err != nil {
				t.Error(err)
				return
			}
			run, err := c.StartRun(t.Context(), RunRequest{})
			if err != nil {
				t.Error(err)
				return
			}
			run.Close()
		})
	}
	clients.Wait()
	if n := opens(t, r); n != 2 {
		t.Errorf("%d daemons were started, want the crashed one and one more", n)
	}
}

// A client that is killed while it starts a daemon leaves the turn to the next,
// and the daemon that it has started is the one that is used.
func TestClientKilledWhileItStartsADaemon(t *testing.T) {
	r := newRole(t)
	path, release := fifo(t, "open")
	r.OpenWaits = path
	first := startClient(t, r)
	eventually(t, "the daemon has the lock", func() bool { return lockHolder(r.paths().Lock()) != "an unknown process" })
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	second := startClient(t, r)
	eventually(t, "the second client has its turn", func() bool {
		lock, err := tryLock(r.paths().startLock())
		if err != nil {
			t.Fatal(err)
		}
		if lock != nil {
			lock.release()
		}
		return lock == nil
	})
	release()
	second.started(t)
	if n := opens(t, r); n != 1 {
		t.Errorf("%d daemons got the lock, want 1", n)
	}
}

func TestASecondDaemonGivesWay(t *testing.T) {
	r := newRole(t)
	pid := pidOf(t, connect(t, r))
	s, err := New(Options{Paths: r.paths(), Open: nil})
	if err == nil {
		t.Fatalf("New without Open = %v", s)
	}
	out, err := runDaemonProcess(t, r)
	if err == nil {
		t.Fatal("a second daemon ran")
	}
	for _, want := range []string{"already running (pid ", "larder: hint: use it"} {
		if !strings.Contains(out, want) {
			t.Errorf("it said %q, want %q in it", out, want)
		}
	}
	if got := pidOf(t, connect(t, r)); got != pid {
		t.Errorf("the first daemon, %d, was replaced by %d", pid, got)
	}
}
