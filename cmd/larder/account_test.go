package main

import (
	"encoding/json"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"larder/daemon"
)

func TestSizesArePrintedInPowersOf1024(t *testing.T) {
	for n, want := range map[int64]string{
		0:                   "0 B",
		1023:                "1023 B",
		1024:                "1.0 KiB",
		1536:                "1.5 KiB",
		1<<20 - 1:           "1.0 MiB", // never "1024.0 KiB"
		64 << 20:            "64.0 MiB",
		5 << 30:             "5.0 GiB",
		9223372036854775807: "8.0 EiB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestSummaryNamesTunnelsAndFailuresOnlyWhenThereWereSome(t *testing.T) {
	got := summaryLine(daemon.Summary{Requests: 1, UpstreamBytes: 12})
	if want := "1 request, 0 hits, 0 B from cache, 12 B from upstream"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got = summaryLine(daemon.Summary{Requests: 4, Hits: 1, CacheBytes: 2048, TunnelBytes: 1, Denied: 1, Errors: 1})
	if want := "4 requests, 1 hit, 2.0 KiB from cache, 0 B from upstream, 1 B tunnelled, 1 denied, 1 failed"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func list(err error, entries ...daemon.Exchange) iter.Seq2[daemon.Exchange, error] {
	return func(yield func(daemon.Exchange, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(daemon.Exchange{}, err)
		}
	}
}

func TestFetchedListIsJSONWhateverItsLength(t *testing.T) {
	for name, entries := range map[string][]daemon.Exchange{
		"none": nil,
		"one":  {{Method: "GET", URL: "https://a.test/x", Status: 200, Class: "hit", Bytes: 3, CacheBytes: 3, SHA256: "ab", CacheStatus: "larder; hit"}},
		"two": {{Method: "GET", URL: "https://a.test/x"}, {Method: "CONNECT", URL: "b.test:443", Err: `quote " and
line`}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "list.json")
			if err := writeFetched(path, list(nil, entries...)); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var got []fetched
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatalf("%v in:\n%s", err, data)
			}
			want := make([]fetched, 0, len(entries))
			for _, e := range entries {
				want = append(want, fetched{
					Method: e.Method, URL: e.URL, Status: e.Status, Class: e.Class, Bytes: e.Bytes,
					CacheBytes: e.CacheBytes, SHA256: e.SHA256, CacheStatus: e.CacheStatus, Error: e.Err,
				})
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("list (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFetchedListReportsAnAccountThatBreaksOff(t *testing.T) {
	lost := errors.New("lost")
	err := writeFetched(filepath.Join(t.TempDir(), "list.json"), list(lost, daemon.Exchange{}))
	if !errors.Is(err, lost) {
		t.Errorf("got %v, want %v", err, lost)
	}
}
