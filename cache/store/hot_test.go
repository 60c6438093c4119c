package store

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"
)

// heat uses an object until the store keeps it in memory, and returns it.
func heat(t *testing.T, s *Store, k Key) *Hot {
	t.Helper()
	for range hotUses + 1 {
		o, err := s.Get(k)
		if err != nil {
			t.Fatalf("Get: %v", err)
		}
		o.Release()
	}
	h, ok := s.Hot(k)
	if !ok {
		t.Fatal("an object used again and again is not in memory")
	}
	return h
}

func TestHotObjectsAreReadWithoutBadger(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: t.TempDir(), MaxSize: 64 << 20})
	body := content(1, 9000)
	fill(t, s, key(1), []byte("meta"), body)
	if _, ok := s.Hot(key(1)); ok {
		t.Error("an object that nobody has used is in memory")
	}
	h := heat(t, s, key(1))
	if !bytes.Equal(h.Body(), body) || string(h.Meta()) != "meta" {
		t.Errorf("in memory: metadata %q, %d bytes", h.Meta(), len(h.Body()))
	}
	// Whatever is wrong with the disk, memory has what was verified.
	for _, path := range files(t, s.opts.Dir, "*.vlog") {
		for off := int64(0); off < 12000; off += 50 {
			flip(t, path, off)
		}
	}
	check(t, s, key(1), []byte("meta"), body)
	if o, err := s.Get(key(1)); err != nil || o.SHA256() != h.SHA256() {
		t.Errorf("Get: %v, SHA-256 %x", err, o.SHA256())
	} else {
		o.Release()
	}
}

func TestHotObjectsFollowTheIndex(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: t.TempDir(), MaxSize: 64 << 20})
	fill(t, s, key(1), []byte("a"), content(1, 1000))
	heat(t, s, key(1))
	if err := s.SetMeta(key(1), []byte("b")); err != nil {
		t.Fatal(err)
	}
	if h, ok := s.Hot(key(1)); ok {
		t.Errorf("metadata %q after it was replaced", h.Meta())
	}
	check(t, s, key(1), []byte("b"), content(1, 1000))
	heat(t, s, key(1))
	fill(t, s, key(1), []byte("c"), content(2, 2000))
	check(t, s, key(1), []byte("c"), content(2, 2000))
	heat(t, s, key(1))
	if err := s.Delete(key(1)); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Hot(key(1)); ok {
		t.Error("an object is in memory after it was deleted")
	}
	absent(t, s, key(1))
	// The slot of the index is used again.
	fill(t, s, key(2), []byte("d"), content(3, 300))
	check(t, s, key(2), []byte("d"), content(3, 300))
}

func TestHotValueIsWorkedOutOnce(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: t.TempDir(), MaxSize: 64 << 20})
	fill(t, s, key(1), []byte("meta"), content(1, 10))
	var calls atomic.Int64
	decode := func(meta []byte) (any, error) {
		calls.Add(1)
		if string(meta) != "meta" {
			return nil, errors.New("not the metadata")
		}
		return new(string(meta)), nil
	}
	h := heat(t, s, key(1))
	first, err := h.Value(decode)
	if err != nil {
		t.Fatal(err)
	}
	o, err := s.Get(key(1))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Release()
	if second, err := o.Value(decode); err != nil || second != first || calls.Load() != 1 {
		t.Errorf("the object's value is %v, %v after %d calls", second, err, calls.Load())
	}
}

func TestHotMemoryIsBounded(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: t.TempDir(), MaxSize: 64 << 20}) // of which 1 MiB may be hot
	const size, n = 4000, 500
	for i := range n {
		fill(t, s, key(i), nil, content(i, size))
	}
	for i := range n {
		for range hotUses + 1 {
			check(t, s, key(i), nil, content(i, size))
		}
		check(t, s, key(0), nil, content(0, size)) // stays in use
	}
	var bytes, entries int
	for i := range s.hot.shards {
		shard := &s.hot.shards[i]
		entries += len(shard.entries)
		sum := 0
		for _, h := range shard.entries {
			sum += h.cost()
		}
		if sum != shard.bytes || sum > shard.limit {
			t.Errorf("shard %d: %d bytes of %d, counted %d", i, sum, shard.limit, shard.bytes)
		}
		if len(shard.queue)-shard.head > 2*len(shard.entries)+1 {
			t.Errorf("shard %d: a queue of %d for %d entries", i, len(shard.queue), len(shard.entries))
		}
		bytes += sum
	}
	if bytes > 1<<20 || entries < 100 {
		t.Errorf("%d entries of %d bytes in memory", entries, bytes)
	}
	if _, ok := s.Hot(key(0)); !ok {
		t.Error("what was always in use is not in memory any more")
	}
}
