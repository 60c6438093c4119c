package curation

import (
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"
)

const (
	// maxRenderings bounds what is kept in memory of indexes that are rendered: their
	// number and their bytes.
	maxRenderings     = 4096
	maxRenderingBytes = 96 << 20
)

// Rendering is an index, or a document of one version, as it goes out. It is shared,
// and nobody changes it.
type Rendering struct {
	// Status is 200, or 404 where the document of a version or tag that is not there
	// was asked for.
	Status int
	// Media is the Content-Type.
	Media string
	// Body is in no content coding, Gzip in gzip; nil where that is not worth its while.
	Body, Gzip []byte
	// ETag is strong and stands for Body; that of Gzip is GzipETag.
	ETag, GzipETag string
	// SHA256 is the digest of Body in hex.
	SHA256 string
	// Hidden versions or files are not in it, and Added wheels are.
	Hidden, Added int

	until     time.Time // when something that is hidden is old enough; zero: never
	published []publishedFile
}

func (r *Rendering) finish() {
	sum := sha256.Sum256(r.Body)
	r.SHA256 = hex.EncodeToString(sum[:])
	r.Gzip = deflate(r.Body)
	short := hex.EncodeToString(sum[:16])
	r.ETag, r.GzipETag = `"`+short+`"`, `"`+short+`-gzip"`
}

func (r *Rendering) size() int {
	return len(r.Body) + len(r.Gzip) + 16*len(r.published) + 512
}

// renderingKey is what a Rendering is made of, besides the policy.
type renderingKey [sha256.Size]byte

// renderings keeps what was used last. It is safe for concurrent use.
type renderings struct {
	mu    sync.Mutex // guards the rest
	by    map[renderingKey]*list.Element
	order list.List // of *rendered, the one used last in front
	bytes int
}

type rendered struct {
	key renderingKey
	r   *Rendering
}

func newRenderings() *renderings {
	return &renderings{by: make(map[renderingKey]*list.Element)}
}

// get returns a Rendering that holds now; nil if there is none.
func (s *renderings) get(key renderingKey, now time.Time) *Rendering {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.by[key]
	if e == nil {
		return nil
	}
	r := e.Value.(*rendered).r
	if !r.until.IsZero() && !now.Before(r.until) {
		s.remove(e)
		return nil
	}
	s.order.MoveToFront(e)
	return r
}

func (s *renderings) put(key renderingKey, r *Rendering) {
	size := r.size()
	if size > maxRenderingBytes/4 {
		return // rather than all others
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.by[key]; e != nil {
		s.remove(e)
	}
	s.by[key] = s.order.PushFront(&rendered{key, r})
	s.bytes += size
	for s.bytes > maxRenderingBytes || s.order.Len() > maxRenderings {
		s.remove(s.order.Back())
	}
}

// remove takes one out. The caller holds mu.
func (s *renderings) remove(e *list.Element) {
	v := s.order.Remove(e).(*rendered)
	delete(s.by, v.key)
	s.bytes -= v.r.size()
}
