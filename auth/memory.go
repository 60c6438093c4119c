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
	mu        sync.Mutex // guards the rest
	good, bad kept
}

func newMemory() *memory {
	return &memory{
		good: kept{until: map[digest]time.Time{}, long: rememberGood, most: maxGood},
		bad:  kept{until: map[digest]time.Time{}, long: rememberBad, most: maxBad},
	}
}

func (m *memory) recall(key digest) (good, known bool) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.good.holds(key, now) {
		return true, true
	}
	return false, m.bad.holds(key, now)
}

func (m *memory) keep(key digest, good bool) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if good {
		m.good.put(key, now)
		return
	}
	m.bad.put(key, now)
}

// kept holds keyed hashes for a while, and so many at most.
type kept struct {
	until map[digest]time.Time
	long  time.Duration
	most  int
	swept time.Time // when all that were over were last removed
}

func (k *kept) holds(key digest, now time.Time) bool {
	until, ok := k.until[key]
	return ok && now.Before(until)
}

// put makes room at need: of what is over, though it does not look for that each
// time, else of any.
func (k *kept) put(key digest, now time.Time) {
	if len(k.until) >= k.most && now.Sub(k.swept) >= k.long/8 {
		k.swept = now
		for old, until := range k.until {
			if !now.Before(until) {
				delete(k.until, old)
			}
		}
	}
	for old := range k.until {
		if len(k.until) < k.most {
			break
		}
		delete(k.until, old)
	}
	k.until[key] = now.Add(k.long)
}
