package mitm

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestTimedConnEndsOnlyWhenNothingMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		c := newTimedConn(a, time.Minute)
		defer c.Close()
		start := time.Now()
		go func() { // ends when b is closed
			_, _ = io.Copy(io.Discard, b)
		}()
		go func() { // ends after ten writes
			for range 10 {
				time.Sleep(50 * time.Second)
				_, _ = c.Write([]byte("x"))
			}
		}()
		_, err := c.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want a timeout", err)
		}
		if got, want := time.Since(start), 560*time.Second; got != want {
			t.Errorf("the read gave up after %v, want %v: a minute after the last write", got, want)
		}
	})
}

func TestTimedConnLetsItsUserSetDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		c := newTimedConn(a, time.Minute)
		defer c.Close()
		start := time.Now()
		wait := func(want time.Duration) {
			t.Helper()
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v, want a timeout", err)
			}
			if got := time.Since(start); got != want {
				t.Errorf("gave up after %v, want %v", got, want)
			}
		}
		_ = c.SetReadDeadline(start.Add(5 * time.Second))
		wait(5 * time.Second)
		_ = c.SetReadDeadline(start.Add(3 * time.Minute)) // beyond the idle time
		wait(3 * time.Minute)
		_ = c.SetReadDeadline(time.Time{})
		wait(4*time.Minute - 0)
		go func() {
			time.Sleep(time.Second)
			_ = c.SetReadDeadline(aLongTimeAgo()) // as net/http ends a waiting read
		}()
		start = time.Now()
		_ = c.SetReadDeadline(time.Time{})
		wait(time.Second)
	})
}

func TestTimedConnWriteTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		c := newTimedConn(a, time.Minute)
		defer c.Close()
		start := time.Now()
		go func() { // ends after a few reads: a slow reader, and then none
			for range 3 {
				time.Sleep(50 * time.Second)
				_, _ = io.CopyN(io.Discard, b, maxTimedWrite)
			}
		}()
		n, err := c.Write(make([]byte, 8*maxTimedWrite))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n != 3*maxTimedWrite {
			t.Errorf("wrote %d, %v; want %d and a timeout", n, err, 3*maxTimedWrite)
		}
		if got := time.Since(start); got > 210*time.Second || got < 200*time.Second {
			t.Errorf("gave up after %v", got)
		}
	})
}
