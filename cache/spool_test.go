package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// lostSpool is a spool whose store has failed before the first byte.
func lostSpool(audience func() bool) *spool {
	s := newSpool(nil, audience)
	s.hash = sha256.New()
	s.lose(errors.New("disk full"))
	return s
}

func always() bool { return true }

func TestWindowGoesAtThePaceOfTheSlowest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := lostSpool(always)
		fast, slow := s.open(0), s.open(0)
		body := noise(3*windowSize + 17)
		var sent atomic.Int64
		go func() {
			for off := 0; off < len(body); off += 100_000 {
				part := body[off:min(off+100_000, len(body))]
				if err := s.append(t.Context(), part); err != nil {
					t.Error(err)
				}
				sent.Add(int64(len(part)))
			}
			s.finish(nil)
		}()
		var got []byte
		go func() {
			got, _ = io.ReadAll(cursorReader{t.Context(), fast})
		}()
		synctest.Wait()
		if n := sent.Load(); n > windowSize {
			t.Errorf("%d bytes accepted while one client reads nothing", n)
		}
		if cap(s.window) > 2*windowSize {
			t.Errorf("window of %d bytes", cap(s.window))
		}
		if late := s.open(0); late == nil {
			t.Error("nothing was trimmed yet, so that a client may still come")
		} else {
			late.close()
		}
		other, err := io.ReadAll(cursorReader{t.Context(), slow})
		if err != nil || digest(other) != digest(body) {
			t.Errorf("slow client: %d bytes, %v", len(other), err)
		}
		synctest.Wait()
		if digest(got) != digest(body) {
			t.Errorf("fast client: %d bytes", len(got))
		}
		if s.open(0) != nil {
			t.Error("a client was let in to bytes that are gone")
		}
	})
}

func TestWindowWithoutClientsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var listening atomic.Bool
		listening.Store(true)
		s := lostSpool(listening.Load)
		c := s.open(0)
		result := make(chan error)
		go func() { result <- s.append(t.Context(), make([]byte, 2*windowSize)) }()
		synctest.Wait()
		listening.Store(false)
		c.close()
		if err := <-result; !errors.Is(err, errNobody) {
			t.Errorf("got %v", err)
		}
	})
}

func TestWindowEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := lostSpool(always)
		c := s.open(0)
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error)
		go func() { result <- s.append(ctx, make([]byte, 2*windowSize)) }()
		synctest.Wait()
		cancel(errAbandoned)
		if err := <-result; !errors.Is(err, errAbandoned) {
			t.Errorf("got %v", err)
		}
		// What was appended is delivered before the failure.
		s.finish(errAbandoned)
		if b, err := io.ReadAll(cursorReader{t.Context(), c}); len(b) != windowSize || !errors.Is(err, errAbandoned) {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	})
}

// cursorReader is a cursor as an io.Reader.
type cursorReader struct {
	ctx context.Context
	c   *cursor
}

func (r cursorReader) Read(p []byte) (int, error) {
	n, _, err := r.c.read(r.ctx, p)
	return n, err
}
