package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// listed decodes the account's list.
func listed(t *testing.T, a *account) []string {
	t.Helper()
	var buf bytes.Buffer
	if err := a.writeTo(&buf); err != nil {
		t.Fatal(err)
	}
	var urls []string
	for dec := json.NewDecoder(&buf); ; {
		var x Exchange
		err := dec.Decode(&x)
		if errors.Is(err, io.EOF) {
			return urls
		}
		if err != nil {
			t.Fatal(err)
		}
		urls = append(urls, x.URL)
	}
}

func TestAccountSpillsAndKeepsTheOrder(t *testing.T) {
	dir := t.TempDir()
	a := newAccount(dir)
	a.memory = 1000
	defer a.close()
	var want []string
	for i := range 500 {
		url := fmt.Sprintf("https://h.test/%d", i)
		want = append(want, url)
		a.add(Exchange{URL: url, Class: "hit", CacheBytes: 2})
		if n := a.recent.Len(); n > a.memory {
			t.Fatalf("%d bytes in memory, more than %d", n, a.memory)
		}
	}
	if a.spilled == 0 {
		t.Fatal("nothing was spilled")
	}
	if diff := cmp.Diff(want, listed(t, a)); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if sum := a.summary(); sum.Hits != 500 || sum.CacheBytes != 1000 || sum.Unlisted != 0 {
		t.Errorf("%+v", sum)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the file has a name: %v, %v", left, err)
	}
}

func TestAccountOfOneExchangeLargerThanItsMemory(t *testing.T) {
	a := newAccount(t.TempDir())
	a.memory = 10
	defer a.close()
	a.add(Exchange{URL: "one"})
	a.add(Exchange{URL: "two"})
	if diff := cmp.Diff([]string{"one", "two"}, listed(t, a)); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

func TestAccountGoesOnWhenItCannotSpill(t *testing.T) {
	a := newAccount(t.TempDir() + "/missing")
	a.memory = 1000
	defer a.close()
	for range 100 {
		a.add(Exchange{URL: "u", Class: "miss", UpstreamBytes: 1})
	}
	sum := a.summary()
	if sum.Requests != 100 || sum.UpstreamBytes != 100 {
		t.Errorf("the sums suffered: %+v", sum)
	}
	if n := len(listed(t, a)); sum.Unlisted == 0 || int64(n)+sum.Unlisted != 100 {
		t.Errorf("%d listed and %d unlisted, want 100 together", n, sum.Unlisted)
	}
}

func TestAccountIsSafeForConcurrentUse(t *testing.T) {
	a := newAccount(t.TempDir())
	a.memory = 2000
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 200 {
				a.add(Exchange{URL: fmt.Sprintf("%d-%d", g, i)})
			}
		})
	}
	all.Go(func() {
		for range 20 {
			if err := a.writeTo(io.Discard); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	got := listed(t, a)
	slices.Sort(got)
	if n := len(slices.Compact(got)); n != 1600 {
		t.Errorf("%d different exchanges are listed, want 1600", n)
	}
	a.close()
	a.add(Exchange{URL: "late"}) // an observer after the run's end does no harm
	if err := a.writeTo(io.Discard); !errors.Is(err, os.ErrClosed) {
		t.Errorf("writeTo after close: %v", err)
	}
}

func TestSummaryKeepsTunnelsApart(t *testing.T) {
	var sum Summary
	for _, x := range []Exchange{
		{Class: "hit", Bytes: 10, CacheBytes: 10},
		{Class: "miss", Bytes: 20, UpstreamBytes: 20},
		{Class: "pass", Bytes: 5, UpstreamBytes: 5},
		{Class: "tunnel", Bytes: 100, UpstreamBytes: 60},
		{Class: "deny"},
		{Class: "error", UpstreamBytes: 3},
	} {
		sum.add(x)
	}
	want := Summary{
		Requests: 6, Hits: 1, Misses: 1, Passed: 1, Tunnels: 1, Denied: 1, Errors: 1,
		CacheBytes: 10, UpstreamBytes: 28, TunnelBytes: 100,
	}
	if diff := cmp.Diff(want, sum); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
