package auth

import (
	"sync"
	"time"
)

const (
	// rememberGood is how long verified credentials are not verified again.
	rememberGood = 10 * time.Minute
	// rememberBad is the same for wrong ones: short, and yet a client that keeps on
	// trying with an old password costs next to nothing.
	rememberBad = 30 * time.Second
	// maxGood and maxBad bound what is remembered, at about 100 bytes each. They are
	// apart, so that guesses push out no user.
	maxGood, maxBad = 16384, 4096
)

// memory knows for a while which credentials were right and which were wrong, by
// their keyed hash. It is safe for concurrent use.
type memory struct {
	mu        sync.Mutex           // guards the rest
	good, bad map[digest]time.Time // until when
}

func newMemory() *memory {
	return &memory{good: map[digest]time.Time{}, bad: map[digest]time.Time{}}
}

func (m *memory) recall(key digest) (good, known bool) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if until, ok := m.good[key]; ok && now.Before(until) {
		return true, true
	}
	until, ok := m.bad[key]
	return false, ok && now.Before(until)
}

func (m *memory) keep(key digest, good bool) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if good {
		put(m.good, key, now, rememberGood, maxGood)
		return
	}
	put(m.bad, key, now, rememberBad, maxBad)
}

// put makes room at need: first of what is over, then of any.
func put(in map[digest]time.Time, key digest, now time.Time, long time.Duration, most int) {
	if len(in) >= most {
		for k, until := range in {
			if !now.Before(until) {
				delete(in, k)
			}
		}
	}
	for k := range in {
		if len(in) < most {
			break
		}
		delete(in, k)
	}
	in[key] = now.Add(long)
}
