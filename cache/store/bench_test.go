package store

import (
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// BenchmarkWriteRange is a hit as the cache serves it: Get, the whole body, Release.
func BenchmarkWriteRange(b *testing.B) {
	for _, bm := range []struct {
		name string
		size int
	}{{"10KiB", 10 << 10}, {"64KiB", 64 << 10}, {"64MiB", 64 << 20}} {
		b.Run(bm.name, func(b *testing.B) {
			s := open(b, Options{MaxSize: 2 << 30})
			fill(b, s, key(1), make([]byte, 600), content(1, bm.size))
			b.SetBytes(int64(bm.size))
			b.ReportAllocs()
			for b.Loop() {
				o, err := s.Get(key(1))
				if err != nil {
					b.Fatal(err)
				}
				if n, err := o.WriteRange(io.Discard, 0, o.Size()); err != nil || n != int64(bm.size) {
					b.Fatal(n, err)
				}
				o.Release()
			}
		})
	}
}

// BenchmarkFill stores objects with contents of their own.
func BenchmarkFill(b *testing.B) {
	for _, bm := range []struct {
		name string
		size int
	}{{"10KiB", 10 << 10}, {"64MiB", 64 << 20}} {
		b.Run(bm.name, func(b *testing.B) {
			s := open(b, Options{MaxSize: 1 << 30})
			body := content(1, bm.size)
			b.SetBytes(int64(bm.size))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				k := key(n)
				copy(body, k[:])
				fill(b, s, k, make([]byte, 600), body)
			}
		})
	}
}

// BenchmarkSeal measures for how long hits on a generation wait while it is sealed.
func BenchmarkSeal(b *testing.B) {
	for _, bm := range []struct {
		name string
		size int
	}{{"2KB", 2000}, {"4MiB", 4 << 20}} {
		b.Run(bm.name, func(b *testing.B) {
			s := open(b, Options{MaxSize: 8 << 30})
			body := content(1, bm.size)
			n := 0
			for b.Loop() {
				b.StopTimer()
				for s.head == nil || s.head.used.Load() < s.geo.generation*15/16 {
					n++
					k := key(n)
					copy(body, k[:])
					fill(b, s, k, make([]byte, 400), body)
				}
				g := s.head
				s.head = nil
				if err := g.sync(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := g.turn(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpen opens a store of many objects, and reports what a hit costs in it.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			o := Options{Dir: b.TempDir(), MaxSize: 8 << 30}
			s := open(b, o)
			body, meta := content(1, 2000), make([]byte, 400)
			for i := range n {
				k := key(i)
				copy(body, k[:])
				fill(b, s, k, meta, body)
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for b.Loop() {
				var err error
				if s, err = Open(o); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if objects := s.Stats().Objects; objects != n {
					b.Fatalf("%d objects", objects)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				start := time.Now()
				const hits = 100_000
				for i := range hits {
					// A thousand of them, spread over the store.
					object, err := s.Get(key(i % 1000 * (n / 1000)))
					if err != nil {
						b.Fatal(err)
					}
					if _, err := object.WriteRange(io.Discard, 0, object.Size()); err != nil {
						b.Fatal(err)
					}
					object.Release()
				}
				b.ReportMetric(float64(time.Since(start).Nanoseconds())/hits, "ns/hit")
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "heap-B/object")
				b.ReportMetric(float64(s.Stats().Generations), "generations")
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkRandomHit draws among all objects of a store of many, which are no larger than
// an index page or a small module: each hit is for an object that was not asked for lately.
func BenchmarkRandomHit(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			o := Options{Dir: b.TempDir(), MaxSize: 8 << 30, Logger: slog.New(slog.DiscardHandler)}
			s := open(b, o)
			body, meta := content(1, 2000), make([]byte, 400)
			for i := range n {
				k := key(i)
				copy(body, k[:])
				fill(b, s, k, meta, body)
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			s = open(b, o)                   // as after a restart: all of it sealed
			for info, err := range s.All() { // so that the pages are in memory
				if err != nil || info.Size == 0 {
					b.Fatal(err)
				}
			}
			rng := rand.New(rand.NewPCG(1, 2))
			b.ReportAllocs()
			for b.Loop() {
				o, err := s.Get(key(rng.IntN(n)))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := o.WriteRange(io.Discard, 0, o.Size()); err != nil {
					b.Fatal(err)
				}
				o.Release()
			}
		})
	}
}
