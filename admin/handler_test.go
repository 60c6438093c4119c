package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

type fixedStore Usage

func (s fixedStore) Usage() Usage { return Usage(s) }

type reloadFunc func(context.Context) error

func (f reloadFunc) Reload(ctx context.Context) error { return f(ctx) }

func ask(t *testing.T, h http.Handler, method, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1:3129"+path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestReadyNamesEveryReason(t *testing.T) {
	var draining atomic.Bool
	h := New(Options{Checks: []Check{
		{Name: "drain", Ready: func(context.Context) error {
			if draining.Load() {
				return errors.New("larder is ending")
			}
			return nil
		}},
		{Name: "store", Ready: func(context.Context) error {
			if draining.Load() {
				return errors.New("disk full")
			}
			return nil
		}},
	}})
	got := ask(t, h, "GET", "/-/ready")
	if got.Code != 200 || strings.TrimSpace(got.Body.String()) != "{\n  \"ready\": true\n}" {
		t.Errorf("ready: %d %s", got.Code, got.Body)
	}
	draining.Store(true)
	got = ask(t, h, "GET", "/-/ready")
	if got.Code != 503 || got.Header().Get("Content-Type") != "application/json" {
		t.Errorf("draining: %d %s, want 503 application/json", got.Code, got.Header().Get("Content-Type"))
	}
	var have Readiness
	if err := json.Unmarshal(got.Body.Bytes(), &have); err != nil {
		t.Fatal(err)
	}
	want := Readiness{Reasons: []Reason{{"drain", "larder is ending"}, {"store", "disk full"}}}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	if got := ask(t, h, "GET", "/-/healthy"); got.Code != 200 {
		t.Errorf("healthy while draining: %d, want 200", got.Code)
	}
}

func TestReadyBoundsTheTimeOfChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(ctx context.Context) error { <-ctx.Done(); return errors.New("no answer") }
		h := &handler{o: Options{Checks: []Check{{Name: "one", Ready: slow}, {Name: "two", Ready: slow}}}}
		begin := time.Now()
		got := h.readiness(t.Context()).Reasons
		if took := time.Since(begin); took != checkTime {
			t.Errorf("checks took %v, want %v", took, checkTime)
		}
		want := []Reason{{"one", "no answer"}, {"two", context.DeadlineExceeded.Error()}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("reasons (-want +got):\n%s", diff)
		}
	})
}

func TestStatsAndPageShowTheSame(t *testing.T) {
	o := Options{
		Version:  "1.2.3 <b>",
		Started:  time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		Store:    fixedStore{Objects: 7, Bytes: 3 << 20, MaxBytes: 20 << 30},
		Gatherer: prometheus.NewRegistry(),
		Reloader: reloadFunc(func(context.Context) error { return nil }),
		Checks:   []Check{{Name: "store", Ready: func(context.Context) error { return errors.New("disk <full>") }}},
	}
	h := New(o)
	var have Stats
	got := ask(t, h, "GET", "/api/v1/stats")
	if err := json.Unmarshal(got.Body.Bytes(), &have); err != nil {
		t.Fatalf("%v in %s", err, got.Body)
	}
	if have.UptimeSeconds <= 0 {
		t.Errorf("uptime_seconds = %d", have.UptimeSeconds)
	}
	have.UptimeSeconds = 0
	want := Stats{
		Version:   "1.2.3 <b>",
		Started:   time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Readiness: Readiness{Reasons: []Reason{{"store", "disk <full>"}}},
		Store:     &Usage{Objects: 7, Bytes: 3 << 20, MaxBytes: 20 << 30},
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
	page := ask(t, h, "GET", "/")
	for _, s := range []string{
		"1.2.3 &lt;b&gt;", "2026-01-02 03:04:05 UTC", "7 objects, 3.0 MiB of 20.0 GiB",
		"not ready", "store: disk &lt;full&gt;", `href="/metrics"`, "POST /-/reload",
	} {
		if !strings.Contains(page.Body.String(), s) {
			t.Errorf("the page lacks %q", s)
		}
	}
	if csp := page.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("Content-Security-Policy: %q", csp)
	}
}

func TestOnlyReloadChangesAnything(t *testing.T) {
	h := New(Options{
		Gatherer: prometheus.NewRegistry(),
		Reloader: reloadFunc(func(context.Context) error { return nil }),
	})
	for _, path := range []string{"/", "/-/healthy", "/-/ready", "/metrics", "/api/v1/stats"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
			if got := ask(t, h, method, path); got.Code != 405 {
				t.Errorf("%s %s: %d, want 405", method, path, got.Code)
			}
		}
	}
	if got := ask(t, h, "GET", "/-/reload"); got.Code != 405 {
		t.Errorf("GET /-/reload: %d, want 405", got.Code)
	}
}
