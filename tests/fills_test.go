package tests

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"larder/tests/origin"
)

// TestOneUpstreamFetchForManyClients opens the upstream's second half only when
// every client has read from the first, so that all of them are certain to share
// one fill.
func TestOneUpstreamFetchForManyClients(t *testing.T) {
	const (
		clients  = 64
		size     = 64 << 20
		heapMost = 128 << 20
	)
	origins := startOrigins(t)
	artifacts := origin.ServeArtifacts(origins, artifactsHost)
	s := newInstance(t, origins, artifactRules).serve(t)
	target := artifactURL("/gated/%d/image.tar", size)
	want := origin.Sum256("image.tar", size)

	stop := make(chan struct{})
	heap := watchHeap(t, s, stop)
	var fed, all sync.WaitGroup
	fed.Add(clients)
	var wrong atomic.Int32
	for range clients {
		client := s.client(t)
		all.Go(func() {
			sum, err := sumOf(client, target, fed.Done)
			if err != nil || sum != want {
				wrong.Add(1)
				t.Errorf("client got SHA-256 %x (%v), want %x", sum, err, want)
			}
		})
	}
	joined := make(chan struct{})
	go func() { fed.Wait(); close(joined) }()
	select {
	case <-joined:
	case <-time.After(patience):
		t.Errorf("not every client was fed while the fill ran")
	}
	artifacts.Open("image.tar")
	all.Wait()
	close(stop)

	if n, _ := origin.Sum(origins.Exchanges(nil)); n != 1 {
		t.Errorf("%d upstream requests for one object, want 1:\n%s", n, exchangeList(origins))
	}
	most := <-heap
	t.Logf("heap in use at most %d MiB, anonymous memory now %d MiB",
		most>>20, anonymousMemory(t, strconv.Itoa(s.cmd.Process.Pid))>>20)
	if most == 0 || most >= heapMost {
		t.Errorf("heap in use reached %d bytes, want less than %d", most, heapMost)
	}

	// What was filled by all is a hit for the next.
	res, err := s.client(t).Head(target)
	must(t, err)
	res.Body.Close()
	if got := res.Header.Get("Cache-Status"); !strings.HasPrefix(got, "larder; hit") {
		t.Errorf("Cache-Status after the fill is %q", got)
	}
}

// sumOf reads a URL to its end; first is called once, after the first bytes or
// at an error.
func sumOf(c *http.Client, target string, first func()) (sum [32]byte, err error) {
	once := sync.OnceFunc(first)
	defer once()
	res, err := c.Get(target)
	if err != nil {
		return sum, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return sum, fmt.Errorf("status %s", res.Status)
	}
	h := sha256.New()
	if _, err := io.CopyN(h, res.Body, 1); err != nil {
		return sum, err
	}
	once()
	_, err = io.CopyBuffer(h, struct{ io.Reader }{res.Body}, make([]byte, 64<<10))
	return [32]byte(h.Sum(nil)), err
}

// watchHeap samples larder's heap until stop closes, then sends the highest.
func watchHeap(t testing.TB, s *service, stop <-chan struct{}) <-chan int64 {
	most := make(chan int64, 1)
	go func() { // ends when stop closes
		var high int64
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				res, err := http.Get("http://" + s.admin + "/metrics")
				if err != nil {
					t.Errorf("read metrics: %v", err)
					continue
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil {
					t.Errorf("read metrics: %v", err)
				}
				high = max(high, int64(gauge(string(body), "go_memstats_heap_inuse_bytes")))
			case <-stop:
				most <- high
				return
			}
		}
	}()
	return most
}

// gauge reads a metric without labels from the text format, 0 when it is absent.
func gauge(text, name string) float64 {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, _ := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return n
		}
	}
	return 0
}

// TestKillDuringFill kills larder with one object stored and another half
// filled. After a restart the first is a hit and nothing of the second is there.
func TestKillDuringFill(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	origins := startOrigins(t)
	artifacts := origin.ServeArtifacts(origins, artifactsHost)
	in := newInstance(t, origins, artifactRules)
	s := in.serve(t)
	stored, partial := artifactURL("/releases/%d/stored.tar", size), artifactURL("/gated/%d/partial.tar", size)
	small := artifactURL("/releases/100/small.txt")
	index := artifactURL("/index/list.txt")
	for _, target := range []string{stored, small, index} {
		if res, _ := get(t, s.client(t), target); res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", target, res.Status)
		}
	}

	res, err := s.client(t).Get(partial)
	must(t, err)
	defer res.Body.Close()
	// A quarter has arrived, and the origin holds back the second half.
	_, err = io.CopyN(io.Discard, res.Body, size/4)
	must(t, err)
	s.signal(t, syscall.SIGKILL)
	if code := s.wait(t); code != -1 {
		t.Fatalf("exit code %d, want death by signal", code)
	}
	if n, err := io.Copy(io.Discard, res.Body); err == nil {
		t.Errorf("client of the killed larder took %d more bytes for a complete body", n)
	}

	origins.Forget()
	artifacts.Open("partial.tar")
	s = in.serve(t)
	for _, c := range []struct {
		target, object string
		size           int64
	}{{stored, "stored.tar", size}, {small, "small.txt", 100}} {
		res, body := get(t, s.client(t), c.target)
		if sum, want := sha256.Sum256(body), origin.Sum256(c.object, c.size); sum != want {
			t.Errorf("%s: SHA-256 %x after the restart, want %x", c.target, sum, want)
		}
		if got := res.Header.Get("Cache-Status"); !strings.HasPrefix(got, "larder; hit") {
			t.Errorf("%s: Cache-Status %q after the restart, want a hit", c.target, got)
		}
	}
	res, body := get(t, s.client(t), partial)
	if sum, want := sha256.Sum256(body), origin.Sum256("partial.tar", size); sum != want {
		t.Errorf("half-filled object: SHA-256 %x after the restart, want %x", sum, want)
	}
	if got := res.Header.Get("Cache-Status"); strings.Contains(got, "; hit") {
		t.Errorf("half-filled object is a hit after the restart: Cache-Status %q", got)
	}
	for _, e := range origins.Exchanges(nil) {
		if strings.HasPrefix(e.Path, "/releases/") {
			t.Errorf("what was stored before the kill was fetched again: %v", e)
		}
	}
}

// TestIncompleteBodyIsNeverStored has an upstream that breaks off mid-body each
// time: every client must notice, and each asks upstream anew.
func TestIncompleteBodyIsNeverStored(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	s := newInstance(t, origins, artifactRules).serve(t)
	target := artifactURL("/truncated/%d/broken.tar", size)
	seen := 0
	for i := range 2 {
		res, err := s.client(t).Get(target)
		if err == nil {
			var n int64
			n, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if err == nil && (res.StatusCode == http.StatusOK || n == size) {
				t.Errorf("request %d: a body that upstream broke off ended as complete after %d bytes", i, n)
			}
			if strings.Contains(res.Header.Get("Cache-Status"), "; hit") {
				t.Errorf("request %d: hit on an incomplete body", i)
			}
		}
		n := len(origins.Exchanges(nil))
		if n == seen {
			t.Errorf("request %d did not reach upstream", i)
		}
		seen = n
	}
}
