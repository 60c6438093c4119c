package cache

import (
	"math"
	"sync"
	"time"

	"larder/cache/store"
)

const (
	// oversizeFor is how long it is remembered that a body of no declared length was
	// too large, and maxOversize bounds how many are.
	oversizeFor = time.Hour
	maxOversize = 4096
)

// oversize remembers the target URIs whose bodies came without a length and turned out
// too large to be stored. Each further attempt would fill up to half of the store with
// bytes that are thrown away, and push out as much that others want.
type oversize struct {
	mu   sync.Mutex
	seen map[store.Key]oversized
}

type oversized struct {
	size  int64 // that it has at least
	until time.Time
}

// note remembers that the body at a primary key has at least size bytes.
func (o *oversize) note(primary store.Key, size int64, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen == nil {
		o.seen = make(map[store.Key]oversized)
	}
	if len(o.seen) >= maxOversize {
		for key, s := range o.seen {
			if !now.Before(s.until) {
				delete(o.seen, key)
			}
		}
	}
	if len(o.seen) < maxOversize {
		o.seen[primary] = oversized{size, now.Add(oversizeFor)}
	}
}

// exceeds reports whether the body at a primary key is remembered to be larger than limit.
func (o *oversize) exceeds(primary store.Key, limit int64, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, ok := o.seen[primary]
	return ok && now.Before(s.until) && s.size > limit
}

// MaxObject is the size in bytes above which no body is stored under the rule.
func (g *storage) MaxObject(rule *Rule) int64 {
	limit := int64(math.MaxInt64)
	if s := g.current.Load(); s != nil {
		limit = s.MaxObject(rule.keeping())
	}
	if rule.MaxObject > 0 {
		limit = min(limit, rule.MaxObject)
	}
	return limit
}

// tooLarge reports whether the body that is about to come will not be stored for its
// size, as far as its header or memory tell, so that no byte of it need be written.
func (f *fill) tooLarge() bool {
	f.limit = f.c.store.MaxObject(f.rule)
	if f.total >= 0 {
		return f.total > f.limit
	}
	return f.c.oversize.exceeds(f.primary, f.limit, f.received)
}
