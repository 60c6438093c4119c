package origin

import (
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Tree serves files that change while clients use them, on hosts that are mirrors of
// each other. It is safe for concurrent use.
type Tree struct {
	mu     sync.Mutex // guards what follows
	files  map[string]dated
	delays map[string]time.Duration
	puts   int
}

// dated is a file and when it was last changed.
type dated struct {
	file
	modified time.Time
}

// NewTree serves a tree, empty at first, on hosts.
func NewTree(s *Server, hosts ...string) *Tree {
	t := &Tree{files: make(map[string]dated), delays: make(map[string]time.Duration)}
	for _, host := range hosts {
		s.Handle(host, t)
	}
	return t
}

// Put adds files by path, or replaces them, all at once. Those with new bytes have
// changed an hour after those of the Put before.
func (t *Tree) Put(bodies map[string][]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.puts++
	for path, body := range bodies {
		if string(t.files[path].body) != string(body) {
			t.files[path] = dated{file: file{body: body, kind: "application/octet-stream"}, modified: published.Add(time.Duration(t.puts) * time.Hour)}
		}
	}
}

func (t *Tree) put(files map[string]dated) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.Copy(t.files, files)
}

func (t *Tree) spoil(folder string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for path, f := range t.files {
		if strings.HasPrefix(path, folder) {
			f.body = append([]byte("spoilt "), f.body...)
			t.files[path] = f
		}
	}
}

// Delay has requests for a path answered so much later.
func (t *Tree) Delay(path string, by time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.delays[path] = by
}

// ServeHTTP implements http.Handler.
func (t *Tree) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	f, ok := t.files[r.URL.Path]
	delay := t.delays[r.URL.Path]
	t.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return
		}
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	f.serveAt(w, r, f.modified)
}
