package cache

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"larder/cache/store"
)

// Parts that wait to be joined are bounded: the representations of which there are
// some, how many there are of one, how long it waits for its next one, and the share
// of the store that all of them take.
const (
	maxPartSets = 64
	maxParts    = 1024
	partsFor    = 10 * time.Minute
	partsShare  = 8
)

// parts is what 206 responses have brought of representations that are not stored,
// until all of one is there and joined (RFC 9111, section 3.4). The bytes are objects
// in the store to which no target URI leads. They may be evicted like any other; then
// nothing is joined.
type parts struct {
	mu   sync.Mutex
	sets map[store.Key]*partSet
	size int64 // of all parts
	// forgotten counts invalidations by the first byte of the primary key: a part that
	// was asked for before one is not kept after it.
	forgotten [256]uint64
}

// partSet is what is there of one representation: of one target URI, selected by the
// same request fields, of one length and with one strong validator.
type partSet struct {
	key      store.Key
	primary  store.Key
	complete int64
	have     []part // by offset; they may overlap
	size     int64
	latest   time.Time // when the latest part was added
	whole    whole     // by the latest part
	joining  bool
	outdated bool
}

// part is one object in the store.
type part struct {
	key    store.Key
	off, n int64
}

// whole is the response to a request without Range, as far as a part tells.
type whole struct {
	rec  *record
	rule *Rule
	set  []string // request fields that select it
	sent http.Header
}

// setKey names a representation; ok is false where no strong validator tells it from
// others (RFC 9110, section 15.3.7.3).
func setKey(primary store.Key, complete int64, set []string, sent, response http.Header) (key store.Key, ok bool) {
	validator := "Etag " + response.Get("Etag")
	if tag := response.Get("Etag"); tag == "" || isWeak(tag) {
		date, strong := strongDate(response)
		if !strong {
			return store.Key{}, false
		}
		validator = "Last-Modified " + date
	}
	b := keyBuilder{}
	b.add(domainParts)
	b.buf = append(b.buf, primary[:]...)
	b.add(strconv.FormatInt(complete, 10))
	b.add(validator)
	b.add(normalList(response["Content-Encoding"]))
	for _, name := range set {
		b.add(name)
		b.add(fieldSource(sent).normal(name))
	}
	return b.sum(), true
}

// reach is the offset up to which nothing is missing from off on.
func (s *partSet) reach(off int64) int64 {
	for _, p := range s.have {
		if p.off > off {
			break
		}
		off = max(off, p.off+p.n)
	}
	return off
}

// epoch is to be given to add by who asks for a part after it.
func (t *parts) epoch(primary store.Key) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.forgotten[primary[0]]
}

// wants reports whether a part brings anything new.
func (t *parts) wants(key store.Key, p part) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sets[key]
	return s == nil || !s.joining && s.reach(p.off) < p.off+p.n
}

// add takes a part over, all of them at most limit bytes. It returns the set if that is
// complete now, which is to be ended after it was joined, and the parts that are not
// needed (any more).
func (t *parts) add(in *partSet, p part, epoch uint64, limit int64) (complete *partSet, gone []part) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.forgotten[in.primary[0]] != epoch {
		return nil, []part{p}
	}
	s := t.sets[in.key]
	if s != nil && (s.joining || s.reach(p.off) >= p.off+p.n) {
		return nil, []part{p}
	}
	if s == nil {
		s = in
		if t.sets == nil {
			t.sets = make(map[store.Key]*partSet)
		}
		t.sets[s.key] = s
	}
	at, _ := slices.BinarySearchFunc(s.have, p, func(a, b part) int { return cmp.Compare(a.off, b.off) })
	s.have = slices.Insert(s.have, at, p)
	s.size += p.n
	t.size += p.n
	s.latest, s.whole = in.latest, in.whole
	gone = t.makeRoom(s, limit)
	if t.sets[s.key] == s && s.reach(0) == s.complete {
		s.joining = true
		complete = s
	}
	return complete, gone
}

// makeRoom keeps the bounds: the sets go that have waited longest. Called with mu held.
func (t *parts) makeRoom(added *partSet, limit int64) (gone []part) {
	if len(added.have) > maxParts {
		gone = t.remove(added)
	}
	byAge := make([]*partSet, 0, len(t.sets))
	for _, s := range t.sets {
		if !s.joining {
			byAge = append(byAge, s)
		}
	}
	slices.SortFunc(byAge, func(a, b *partSet) int { return a.latest.Compare(b.latest) })
	for _, s := range byAge {
		if len(t.sets) <= maxPartSets && t.size <= limit && added.latest.Sub(s.latest) < partsFor {
			break
		}
		gone = append(gone, t.remove(s)...)
	}
	return gone
}

// remove is called with mu held.
func (t *parts) remove(s *partSet) []part {
	if t.sets[s.key] == s {
		delete(t.sets, s.key)
		t.size -= s.size
	}
	return s.have
}

// end takes a set out that was joined, or could not be.
func (t *parts) end(s *partSet) (gone []part) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.remove(s)
}

// isOutdated reports whether a set that is being joined was forgotten meanwhile.
func (t *parts) isOutdated(s *partSet) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return s.outdated
}

// forget gives up what is there of the target URIs that match accepts, and counts for
// primary keys that begin as theirs do.
func (t *parts) forget(match func(*partSet) bool) (gone []part) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.sets {
		switch {
		case !match(s):
		case s.joining:
			s.outdated = true // who joins it looks, and takes it out
		default:
			gone = append(gone, t.remove(s)...)
		}
	}
	return gone
}

// forgetTarget is forget for an unsafe request to one target URI. What was asked for
// already is not kept either.
func (t *parts) forgetTarget(primary store.Key) []part {
	t.mu.Lock()
	t.forgotten[primary[0]]++
	t.mu.Unlock()
	return t.forget(func(s *partSet) bool { return s.primary == primary })
}

// forgetMatching is forget by URL.
func (t *parts) forgetMatching(match func(url string) bool) []part {
	t.mu.Lock()
	for i := range t.forgotten {
		t.forgotten[i]++
	}
	t.mu.Unlock()
	return t.forget(func(s *partSet) bool { return match(s.whole.rec.url) })
}
