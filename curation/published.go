package curation

import (
	"hash/maphash"
	"sync"
	"time"
)

// maxPublished bounds how many files' ages are remembered; each takes some 50 bytes.
const maxPublished = 1 << 18

// Published remembers when files were published, as indexes have said: of as many as
// were seen last. It is safe for concurrent use.
type Published struct {
	seed maphash.Seed

	mu        sync.Mutex // guards the rest
	now, past map[uint64]int64
}

// NewPublished returns an empty memory.
func NewPublished() *Published {
	return &Published{seed: maphash.MakeSeed(), now: make(map[uint64]int64)}
}

// publishedFile is what an index says of the age of a file.
type publishedFile struct {
	key uint64 // digest of the FileKey
	at  int64  // in nanoseconds since 1970
}

func (p *Published) entry(key string, at time.Time) publishedFile {
	return publishedFile{maphash.String(p.seed, key), at.UnixNano()}
}

// put notes the times of files.
func (p *Published) put(all []publishedFile) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range all {
		if len(p.now) >= maxPublished/2 {
			p.past, p.now = p.now, make(map[uint64]int64)
		}
		p.now[f.key] = f.at
	}
}

// Of returns the time of a file by its FileKey, zero if no index has told.
func (p *Published) Of(key string) time.Time {
	h := maphash.String(p.seed, key)
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.now[h]
	if !ok {
		if n, ok = p.past[h]; !ok {
			return time.Time{}
		}
	}
	return time.Unix(0, n)
}
