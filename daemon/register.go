package daemon

import (
	"errors"
	"sync"
	"time"
)

// errEnding refuses a run, because the daemon is about to be gone.
var errEnding = errors.New("the background larder is ending")

// errBusy refuses to end, because there are runs.
var errBusy = errors.New("the background larder has runs under way")

// register is the list of the daemon's runs, and decides when it ends: at a run's
// coming and its own going are one decision under one lock.
type register struct {
	idle time.Duration // negative: for ever

	mu     sync.Mutex // guards what follows
	runs   map[string]*hostedRun
	ending bool
	timer  *time.Timer // runs while there is no run
	until  time.Time   // when it ends if no run comes

	ended   chan struct{} // closed when ending becomes true
	drained chan struct{} // closed when ending is true and runs is empty
}

// firstRun is how long a daemon waits for its first run at least. One that was
// started for a run should see it, however short its idle time is.
const firstRun = 10 * time.Second

func newRegister(idle time.Duration) *register {
	first := max(idle, firstRun)
	g := &register{
		idle:    idle,
		runs:    map[string]*hostedRun{},
		until:   time.Now().Add(first),
		ended:   make(chan struct{}),
		drained: make(chan struct{}),
	}
	if idle >= 0 {
		g.mu.Lock()
		g.timer = time.AfterFunc(first, g.quiet)
		g.mu.Unlock()
	}
	return g
}

// quiet is called by the timer, perhaps just after a run came and even went.
func (g *register) quiet() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.runs) > 0 {
		return
	}
	if left := time.Until(g.until); left > 0 {
		g.timer.Reset(left)
		return
	}
	g.endLocked()
}

func (g *register) add(r *hostedRun) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ending {
		return errEnding
	}
	g.runs[r.id] = r
	if g.timer != nil {
		g.timer.Stop()
	}
	return nil
}

func (g *register) remove(r *hostedRun) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.runs, r.id)
	if len(g.runs) > 0 {
		return
	}
	if g.ending {
		close(g.drained)
		return
	}
	g.until = time.Now().Add(g.idle)
	if g.timer != nil {
		g.timer.Reset(g.idle)
	}
}

func (g *register) find(id string) *hostedRun {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.runs[id]
}

func (g *register) count() (runs int, ending bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.runs), g.ending
}

// end refuses runs from now on.
func (g *register) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.endLocked()
}

// endIfQuiet is end, unless there are runs.
func (g *register) endIfQuiet() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.runs) > 0 {
		return errBusy
	}
	g.endLocked()
	return nil
}

func (g *register) endLocked() {
	if g.ending {
		return
	}
	g.ending = true
	if g.timer != nil {
		g.timer.Stop()
	}
	close(g.ended)
	if len(g.runs) == 0 {
		close(g.drained)
	}
}
