package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"
)

const (
	pollFirst = 2 * time.Millisecond
	pollMost  = 50 * time.Millisecond
	// mutes is how many questions may time out before a daemon counts as hanging.
	mutes = 2
)

// reach returns when a daemon of the right build answers.
func (c *Client) reach(ctx context.Context) error {
	s := starter{o: c.o}
	defer s.release()
	for wait := pollFirst; ; wait = min(2*wait, pollMost) {
		// Asked before the status: a daemon that found another one at work ends,
		// and then it is the other that answers.
		died := s.died()
		st, err := c.Status(ctx)
		answers := err == nil
		ready, err := s.judge(ctx, c, st, err)
		switch {
		case ready || err != nil:
			return err
		case died != nil && !answers:
			return died
		case died != nil:
			s.child = nil // it gave way to the one that answers
		}
		select {
		case <-ctx.Done():
			return s.tooLate(ctx)
		case <-time.After(wait):
		}
	}
}

// starter is one attempt to reach a daemon.
type starter struct {
	o     StartOptions
	turn  *fileLock // held while this process is the one that may start a daemon
	child *child
	muted int
	// queued: another process was about to start one when this one asked last.
	queued bool
}

// judge decides what the answer to a status request means: ready, an error that
// no waiting mends, or neither.
func (s *starter) judge(ctx context.Context, c *Client, st Status, err error) (ready bool, _ error) {
	switch {
	case err == nil && st.Ending:
		return false, nil
	case err == nil && st.Build == s.o.Build:
		return true, nil
	case err == nil && s.child != nil && st.PID == s.child.pid:
		// Replacing it would bring the same again.
		return false, s.startError(fmt.Errorf("it is build %q, not %q", st.Build, s.o.Build))
	case err == nil:
		return false, s.retire(ctx, c, st)
	case ctx.Err() != nil:
		return false, nil
	case gone(err):
		return false, s.start()
	case errors.Is(err, syscall.EAGAIN):
		return false, nil // its backlog is full
	case errors.Is(err, context.DeadlineExceeded):
		if s.muted++; s.muted < mutes {
			return false, nil
		}
		return false, s.hangs()
	case errors.Is(err, fs.ErrPermission):
		// Says whose folder it is, if that is why.
		if err := s.o.Paths.Create(); err != nil {
			return false, err
		}
	}
	return false, err
}

// retire asks a daemon of another build to make room.
func (s *starter) retire(ctx context.Context, c *Client, st Status) error {
	err := c.End(ctx)
	switch {
	case err == nil, gone(err):
		return nil
	case refusedAs(err, codeBusy):
		return &VersionError{Running: st.Build, Wanted: s.o.Build, PID: st.PID, Runs: st.Runs}
	}
	return err
}

// start starts a daemon when it is this process's turn, and nobody has since.
func (s *starter) start() error {
	if len(s.o.Command) == 0 {
		return ErrNotRunning
	}
	if s.child != nil {
		return nil
	}
	if s.turn == nil {
		if err := s.o.Paths.Create(); err != nil {
			return err
		}
		var err error
		s.turn, err = tryLock(s.o.Paths.startLock())
		s.queued = s.turn == nil
		// Not now, even if it is our turn: whoever had it before may have
		// started one after we asked.
		return err
	}
	var err error
	s.child, err = spawn(s.o.Paths, s.o.Command, s.o.Env)
	return err
}

// died says that the daemon which was started here is no more.
func (s *starter) died() error {
	if s.child == nil {
		return nil
	}
	how, dead := s.child.exited()
	if !dead {
		return nil
	}
	return s.startError(errors.New(how))
}

func (s *starter) startError(err error) error {
	log := s.o.Paths.Log()
	return &StartError{Err: err, LogFile: log, Log: logTail(log, s.child.logStart)}
}

func (s *starter) tooLate(ctx context.Context) error {
	switch {
	case !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("wait for the background larder: %w", ctx.Err())
	case s.child != nil:
		return s.startError(fmt.Errorf("it does not answer yet: %w", ctx.Err()))
	case s.queued:
		return hinted("if it hangs, end it; the log is "+s.o.Paths.Log(),
			"another larder (%s) is starting the background larder and is not done", lockHolder(s.o.Paths.startLock()))
	}
	return s.hangs()
}

func (s *starter) hangs() error {
	who := lockHolder(s.o.Paths.Lock())
	return hinted("if it hangs, end it with kill -9; its log is "+s.o.Paths.Log(),
		"the background larder (%s) does not answer on %s", who, s.o.Paths.Socket())
}

func (s *starter) release() {
	if s.turn != nil {
		s.turn.release()
	}
}
