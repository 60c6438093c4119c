package daemon

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// released waits until nobody is the daemon of r.
func released(t *testing.T, r role) {
	t.Helper()
	eventually(t, "the lock is released", func() bool {
		lock, err := tryLock(r.paths().Lock())
		if err != nil {
			t.Fatal(err)
		}
		if lock == nil {
			return false
		}
		lock.release()
		return true
	})
}

func TestIdleDaemonEndsAndCleansUp(t *testing.T) {
	r := newRole(t)
	r.Idle = 50 * time.Millisecond
	c := connect(t, r)
	run := startRun(t, c)
	pid := pidOf(t, c)
	// It has a run, so it stays for longer than Idle.
	fetch(t, run, "hit", 1)
	for begin := time.Now(); time.Since(begin) < 4*r.Idle; {
		if st, err := c.Status(t.Context()); err != nil || st.Ending {
			t.Fatalf("with a run under way: %+v, %v", st, err)
		}
	}
	run.Close()
	ended(t, pid)
	released(t, r)
	if _, err := os.Lstat(r.paths().Socket()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	left, err := os.ReadDir(r.paths().Run())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if !strings.HasSuffix(e.Name(), ".lock") && e.Name() != "daemon.log" {
			t.Errorf("left behind: %s", e.Name())
		}
	}
	// The client starts another when it needs one.
	fetch(t, startRun(t, c), "hit", 1)
}

func TestRunsNeverSeeTheIdleEnd(t *testing.T) {
	r := newRole(t)
	r.Idle = time.Millisecond
	c := connect(t, r)
	for range 20 {
		run := startRun(t, c)
		fetch(t, run, "hit", 1)
		if sum, err := run.Finish(t.Context()); err != nil || sum.Hits != 1 {
			t.Fatalf("Finish = %+v, %v", sum, err)
		}
		run.Close()
	}
}

// The successor has the store only after its predecessor has closed it.
func TestSuccessorWaitsForTheEndOfItsPredecessor(t *testing.T) {
	r := newRole(t)
	path, release := fifo(t, "close")
	r.CloseWaits = path
	c := connect(t, r)
	first := pidOf(t, c)
	if err := c.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the socket is closed", func() bool {
		_, err := os.Lstat(r.paths().Socket())
		return err != nil
	})
	var wait sync.WaitGroup
	var second *Client
	var err error
	wait.Go(func() { second, err = Connect(t.Context(), r.options(t)) })
	eventually(t, "a successor is being started", func() bool {
		lock, err := tryLock(r.paths().startLock())
		if err != nil {
			t.Error(err)
		}
		if lock != nil {
			lock.release()
		}
		return lock == nil
	})
	release()
	wait.Wait()
	if err != nil {
		t.Fatal(err)
	}
	// The second waits for the FIFO as well when it ends, hence no idle end.
	if got := pidOf(t, second); got == first {
		t.Errorf("still pid %d", got)
	}
	log := logOf(t, r)
	end, open := strings.Index(log, "background larder ended"), strings.LastIndex(log, "opened by pid")
	if end < 0 || open < end {
		t.Errorf("the successor opened before its predecessor had ended:\n%s", log)
	}
}

func TestTermGivesRunsTheirGrace(t *testing.T) {
	r := newRole(t)
	r.Grace = 20 * time.Second
	c := connect(t, r)
	run := startRun(t, c)
	fetch(t, run, "miss", 5)
	pid := pidOf(t, c)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the daemon is ending", func() bool {
		st, err := c.Status(t.Context())
		return err == nil && st.Ending
	})
	// A run that is under way goes on, and a new one is refused.
	fetch(t, run, "miss", 6)
	if _, err := c.openRun(t.Context(), RunRequest{}); !refusedAs(err, codeEnding) {
		t.Errorf("a new run: %v, want it refused", err)
	}
	sum, err := run.Finish(t.Context())
	if err != nil || sum.UpstreamBytes != 11 {
		t.Errorf("Finish = %+v, %v", sum, err)
	}
	run.Close()
	ended(t, pid)
	released(t, r)
}

func TestGraceIsBounded(t *testing.T) {
	r := newRole(t)
	r.Grace = 50 * time.Millisecond
	c := connect(t, r)
	run := startRun(t, c)
	held := hold(t, run)
	pid := pidOf(t, c)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended(t, pid)
	released(t, r)
	if _, err := held.Body.Read(make([]byte, 100)); err == nil {
		t.Error("the response under way did not end")
	}
	if _, err := run.Finish(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("Finish: %v, want ErrLost", err)
	}
}

// hold begins a response that does not end by itself.
func hold(t *testing.T, run *Run) *http.Response {
	t.Helper()
	resp, err := (&http.Client{Transport: &http.Transport{}}).Get("http://" + run.ProxyAddr + "/miss/0?hold")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestFinishCutsWhatTheCommandLeftBehind(t *testing.T) {
	r := newRole(t)
	r.FinishWait = 200 * time.Millisecond
	run := startRun(t, connect(t, r))
	held := hold(t, run)
	begin := time.Now()
	sum, err := run.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < r.FinishWait || took > r.FinishWait+serveWait+5*time.Second {
		t.Errorf("Finish took %v", took)
	}
	if sum.Cut != 1 || sum.Requests != 1 || sum.Misses != 1 {
		t.Errorf("%+v, want one request, cut and accounted for", sum)
	}
	// A clean end would make what there is of the body look like all of it.
	if _, err := io.ReadAll(held.Body); err == nil {
		t.Error("the body that was cut looks complete")
	}
	refused(t, run.ProxyAddr)
}

// What is under way ends by itself, and connections that are only kept are no
// reason to wait.
func TestFinishWaitsForWhatIsUnderWayAndNotForKeptConnections(t *testing.T) {
	r := newRole(t)
	run := startRun(t, connect(t, r))
	kept := &http.Client{Transport: &http.Transport{}}
	resp, err := kept.Get("http://" + run.ProxyAddr + "/hit/1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	held := hold(t, run)
	done := make(chan Summary, 1)
	go func() {
		sum, err := run.Finish(t.Context())
		if err != nil {
			t.Error(err)
		}
		done <- sum
	}()
	refused(t, run.ProxyAddr)
	select {
	case sum := <-done:
		t.Errorf("finished with an exchange under way: %+v", sum)
	default:
	}
	begin := time.Now()
	held.Body.Close() // the client goes
	sum := <-done
	if took := time.Since(begin); took > finishWait/2 {
		t.Errorf("waited for %v", took)
	}
	if sum.Requests != 2 || sum.Cut != 0 {
		t.Errorf("%+v, want two requests and nothing cut", sum)
	}
}

func TestOtherBuildIsReplacedWhenItHasNoRuns(t *testing.T) {
	r := newRole(t)
	one := connect(t, r)
	first := pidOf(t, one)
	run := startRun(t, one)

	two := r
	two.Build = "two"
	_, err := Connect(t.Context(), two.options(t))
	version, ok := errors.AsType[*VersionError](err)
	if !ok {
		t.Fatalf("Connect of another build: %v, want a *VersionError", err)
	}
	if want := (VersionError{Running: "one", Wanted: "two", PID: first, Runs: 1}); *version != want {
		t.Errorf("%+v, want %+v", *version, want)
	}
	if version.Hint() == "" {
		t.Error("no hint")
	}
	fetch(t, run, "hit", 1) // it was left in peace
	run.Close()
	eventually(t, "the run has ended", func() bool {
		st, err := one.Status(t.Context())
		return err == nil && st.Runs == 0
	})
	c := connect(t, two)
	st, err := c.Status(t.Context())
	if err != nil || st.Build != "two" || st.PID == first {
		t.Errorf("Status = %+v, %v", st, err)
	}
	ended(t, first)
}

func TestDaemonThatIsNotTheBuildAskedForIsAnError(t *testing.T) {
	r := newRole(t)
	o := r.options(t)
	o.Build = "two"
	_, err := Connect(t.Context(), o)
	start, ok := errors.AsType[*StartError](err)
	if !ok || !strings.Contains(start.Err.Error(), `it is build "one", not "two"`) {
		t.Errorf("Connect: %v, want a *StartError that names both", err)
	}
}
