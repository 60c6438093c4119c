package daemon

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestRegisterEndsWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = time.Minute
		g := newRegister(idle)
		run := &hostedRun{id: "a"}
		time.Sleep(idle - time.Second)
		if err := g.add(run); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * idle)
		if isClosed(g.ended) {
			t.Fatal("ended during a run")
		}
		if err := g.endIfQuiet(); !errors.Is(err, errBusy) {
			t.Errorf("endIfQuiet during a run = %v", err)
		}
		g.remove(run)
		time.Sleep(idle - time.Second)
		synctest.Wait()
		if isClosed(g.ended) {
			t.Fatal("ended before its time")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !isClosed(g.ended) || !isClosed(g.drained) {
			t.Fatal("did not end when idle")
		}
		if err := g.add(run); !errors.Is(err, errEnding) {
			t.Errorf("add after the end = %v", err)
		}
	})
}

func TestRegisterWaitsForItsFirstRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRegister(time.Millisecond)
		time.Sleep(firstRun - time.Second)
		synctest.Wait()
		run := &hostedRun{id: "a"}
		if err := g.add(run); err != nil {
			t.Fatal(err)
		}
		g.remove(run)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if !isClosed(g.ended) {
			t.Error("waited on after its first run")
		}
	})
}

func TestRegisterNeverEndsByItselfWithNegativeIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRegister(-1)
		time.Sleep(1000 * time.Hour)
		synctest.Wait()
		if isClosed(g.ended) {
			t.Error("ended")
		}
		run := &hostedRun{id: "a"}
		if err := g.add(run); err != nil {
			t.Fatal(err)
		}
		g.end()
		if !isClosed(g.ended) || isClosed(g.drained) {
			t.Error("with a run, end should end and not be drained")
		}
		g.remove(run)
		g.end()
		if !isClosed(g.drained) {
			t.Error("not drained after its last run")
		}
	})
}
