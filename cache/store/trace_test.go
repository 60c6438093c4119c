package store

import (
	"container/heap"
	"container/list"
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"testing"
)

// A request of the trace: an object's number, and whether it is of the hot set.
type request struct {
	object int
	hot    bool
}

// fleetTrace is days of a build fleet. By day a third of the requests go to a hot
// set and two thirds to a Zipf distribution over many times what the cache holds. By
// night a job reads half as much again as the cache holds, each object once and never
// again, and one request in twenty is as by day.
func fleetTrace(days, capacity int) []request {
	const alpha = 0.9
	rng := rand.New(rand.NewPCG(7, 11))
	universe := 5 * capacity
	cumulated := make([]float64, universe)
	sum := 0.0
	for i := range cumulated {
		sum += math.Pow(float64(i+1), -alpha)
		cumulated[i] = sum
	}
	hot := capacity / 20
	byDay := func() request {
		if rng.IntN(3) == 0 {
			return request{object: rng.IntN(hot), hot: true}
		}
		u := rng.Float64() * sum
		lo, hi := 0, universe
		for lo < hi {
			if mid := (lo + hi) / 2; cumulated[mid] < u {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		return request{object: hot + lo}
	}
	var all []request
	next := hot + universe
	for range days {
		for range 3 * capacity {
			all = append(all, byDay())
		}
		for range capacity * 3 / 2 {
			if rng.IntN(20) == 0 {
				all = append(all, byDay())
			}
			all = append(all, request{object: next})
			next++
		}
	}
	return all
}

// lru replays a trace against least recently used and says which requests hit.
func lru(trace []request, capacity int) []bool {
	order, at := list.New(), make(map[int]*list.Element)
	hits := make([]bool, len(trace))
	for i, r := range trace {
		if e := at[r.object]; e != nil {
			hits[i] = true
			order.MoveToFront(e)
			continue
		}
		if order.Len() == capacity {
			delete(at, order.Remove(order.Back()).(int))
		}
		at[r.object] = order.PushFront(r.object)
	}
	return hits
}

// belady replays a trace against the optimum for objects of one size: what is
// used again last of all goes, or is not stored at all.
func belady(trace []request, capacity int) []bool {
	nextUse := make([]int, len(trace))
	seen := make(map[int]int)
	for i := len(trace) - 1; i >= 0; i-- {
		nextUse[i] = len(trace)
		if n, ok := seen[trace[i].object]; ok {
			nextUse[i] = n
		}
		seen[trace[i].object] = i
	}
	stored := make(map[int]int) // object → its next use
	var farthest useHeap
	hits := make([]bool, len(trace))
	for i, r := range trace {
		_, hits[i] = stored[r.object]
		stored[r.object] = nextUse[i]
		heap.Push(&farthest, use{object: r.object, next: nextUse[i]})
		for len(stored) > capacity {
			if u := heap.Pop(&farthest).(use); stored[u.object] == u.next {
				delete(stored, u.object)
			}
		}
	}
	return hits
}

// A use is when an object is used next; entries that a later use replaced stay
// in the heap until they come up.
type use struct{ object, next int }

type useHeap []use

func (h useHeap) Len() int           { return len(h) }
func (h useHeap) Less(i, j int) bool { return h[i].next > h[j].next }
func (h useHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *useHeap) Push(x any)        { *h = append(*h, x.(use)) }
func (h *useHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// replay runs a trace through a store: what misses is filled.
func replay(t *testing.T, s *Store, trace []request, size int) []bool {
	t.Helper()
	body := content(1, size)
	hits := make([]bool, len(trace))
	for i, r := range trace {
		k := key(r.object)
		o, err := s.Get(k)
		if err == nil {
			hits[i] = true
			o.Release()
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		copy(body, k[:])
		fill(t, s, k, nil, body)
	}
	return hits
}

// ratios are the hit ratios of all requests and of those for the hot set, from
// the first night on.
func ratios(trace []request, hits []bool, from int) (all, hot float64) {
	var hotHits, hotRequests, allHits int
	for i, r := range trace[from:] {
		if hits[from+i] {
			allHits++
		}
		if r.hot {
			hotRequests++
			if hits[from+i] {
				hotHits++
			}
		}
	}
	return float64(allHits) / float64(len(trace)-from), float64(hotHits) / float64(hotRequests)
}

// TestHotSetSurvivesNightlyScans replays a fleet's trace through the store and,
// with as many objects as the cap has room for, through LRU and Belady's optimum.
func TestHotSetSurvivesNightlyScans(t *testing.T) {
	t.Parallel()
	maxSize := int64(turns(32, 128)) << 20
	const size = 10 << 10
	capacity := int(maxSize / size)
	trace := fleetTrace(turns(3, 6), capacity)
	s := open(t, Options{MaxSize: maxSize})
	first := 3 * capacity // the first night's first request
	storeAll, storeHot := ratios(trace, replay(t, s, trace, size), first)
	lruAll, lruHot := ratios(trace, lru(trace, capacity), first)
	bestAll, bestHot := ratios(trace, belady(trace, capacity), first)
	st := s.Stats()
	t.Logf("%d requests, room for %d objects: hit ratio %.3f, LRU %.3f, Belady %.3f; of the hot set %.3f, LRU %.3f, Belady %.3f; %d promoted, %.3f bytes written per byte filled",
		len(trace), capacity, storeAll, lruAll, bestAll, storeHot, lruHot, bestHot, st.Promoted,
		float64(st.Written)/float64(st.Written-st.Promoted*size))
	if storeHot < 0.965 {
		t.Errorf("%.3f of the requests for the hot set hit", storeHot)
	}
	if storeHot <= lruHot {
		t.Errorf("no better for the hot set than LRU: %.3f, %.3f", storeHot, lruHot)
	}
	if storeAll < lruAll-0.01 {
		t.Errorf("a hit ratio of %.3f, below LRU's %.3f", storeAll, lruAll)
	}
}
