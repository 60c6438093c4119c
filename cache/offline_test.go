package cache

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// offlineRequest is what the front server answers to one request.
func offlineRequest(t *testing.T, w *world, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.front.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := w.front.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestOffline(t *testing.T) {
	for _, perRule := range []bool{true, false} {
		t.Run(fmt.Sprintf("by rule %v", perRule), func(t *testing.T) {
			w := newWorld(t, &Rule{Mode: Revalidate, TTL: time.Minute, NegativeTTL: time.Minute, DropQuery: []string{"sig"}}, func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/gone" {
					http.NotFound(rw, r)
					return
				}
				rw.Header().Set("Cache-Control", "no-cache, must-revalidate")
				fmt.Fprint(rw, "body of "+r.URL.Path)
			})
			offlineRequest(t, w, "GET", "/a")
			offlineRequest(t, w, "GET", "/gone")
			asked := w.all.Load()
			if perRule {
				rule := *w.rule
				rule.Offline = true
				w.rule = &rule
			} else {
				w.cache.SetOffline(true)
			}
			for _, tc := range []struct {
				name         string
				after        time.Duration
				method, path string
				header       []string
				status       int
				body         string // part of it
				cacheStatus  string
			}{
				{"fresh", 0, "GET", "/a", nil, 200, "body of /a", "larder; hit; ttl=60"},
				{"another query", 0, "GET", "/a?sig=1", nil, 200, "body of /a", "larder; hit"},
				{"not stored", 0, "GET", "/b?token=secret", nil, 504, "offline, and nothing is stored for ", "larder; detail=offline"},
				{"not stored, HEAD", 0, "HEAD", "/b", nil, 504, "", "larder; detail=offline"},
				{"a range of what is not stored", 0, "GET", "/b", []string{"Range", "bytes=1-2"}, 504, "offline", "detail=offline"},
				{"no-store of what is not stored", 0, "GET", "/b", []string{"Cache-Control", "no-store"}, 504, "offline", "detail=offline"},
				{"only-if-cached", 0, "GET", "/b", []string{"Cache-Control", "only-if-cached"}, 504, "offline", "detail=offline"},
				{"other method", 0, "OPTIONS", "/a", nil, 504, "offline", "detail=offline"},
				{"precondition for the origin", 0, "GET", "/a", []string{"If-Match", `"x"`}, 504, "offline", "detail=offline"},
				{"no-cache", 0, "GET", "/a", []string{"Cache-Control", "no-cache"}, 200, "body of /a", "detail=offline"},
				{"stale for a year", 365 * 24 * time.Hour, "GET", "/a", nil, 200, "body of /a", "; hit; ttl=-31535940; detail=offline"},
				{"stale, HEAD", 0, "HEAD", "/a", nil, 200, "", "; hit; ttl=-31535940; detail=offline"},
				{"stale, a range", 0, "GET", "/a", []string{"Range", "bytes=0-3"}, 206, "body", "detail=offline"},
				{"stale 404", 0, "GET", "/gone", nil, 404, "not found", "detail=offline"},
			} {
				w.clock.advance(tc.after)
				res, body := offlineRequest(t, w, tc.method, tc.path, tc.header...)
				if res.StatusCode != tc.status || !strings.Contains(body, tc.body) || !strings.Contains(res.Header.Get("Cache-Status"), tc.cacheStatus) {
					t.Errorf("%s: %s, %q, %q; want %d, %q, %q", tc.name, res.Status, body, res.Header.Get("Cache-Status"), tc.status, tc.body, tc.cacheStatus)
				}
				if strings.Contains(body, "secret") {
					t.Errorf("%s: the body shows the query", tc.name)
				}
			}
			if n := w.all.Load() - asked; n != 0 {
				t.Errorf("%d requests went upstream", n)
			}
			w.cache.SetOffline(false)
			rule := *w.rule
			rule.Offline = false
			w.rule = &rule
			if res, _ := offlineRequest(t, w, "GET", "/b"); res.StatusCode != 200 {
				t.Errorf("online again: %s", res.Status)
			}
		})
	}
}
