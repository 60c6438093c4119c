package admin

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestReloadAnswersWithTheErrorsAndSetsTheGauges(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	var fails error
	calls := 0
	h := New(Options{
		Gatherer: reg,
		Reloader: NewReload(func(ctx context.Context) error {
			calls++
			return errors.Join(ctx.Err(), fails)
		}, reg),
	})
	const gauge = "larder_config_last_reload_successful"
	if got := ask(t, h, "POST", "/-/reload"); got.Code != 200 {
		t.Errorf("reload: %d %s", got.Code, got.Body)
	}
	fails = errors.New("larder.yaml:3:1: unknown field \"tttl\"\nlarder.yaml:9:1: duplicate")
	got := ask(t, h, "POST", "/-/reload")
	if got.Code != 500 || got.Body.String() != fails.Error()+"\n" {
		t.Errorf("reload of a bad policy: %d %q", got.Code, got.Body)
	}
	if ct := got.Header().Get("Content-Type"); ct != "text/plain; charset=utf-8" {
		t.Errorf("Content-Type of errors: %q", ct)
	}
	if calls != 2 {
		t.Errorf("%d reloads, want 2", calls)
	}
	if text := ask(t, h, "GET", "/metrics").Body.String(); !strings.Contains(text, gauge+" 0") {
		t.Errorf("/metrics lacks %s 0", gauge)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v %v", err, problems)
	}
}

func TestPagesOfOtherOriginsCannotReload(t *testing.T) {
	calls := 0
	h := New(Options{Reloader: reloadFunc(func(context.Context) error { calls++; return nil })})
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "http://evil.test"},
		{"Host", "evil.test", "Origin", "http://evil.test", "Sec-Fetch-Site", "same-origin"},
	} {
		if got := ask(t, h, "POST", "/-/reload", header...); got.Code != 403 && got.Code != 421 {
			t.Errorf("%v: %d, want it refused", header, got.Code)
		}
	}
	if calls != 0 {
		t.Errorf("reloaded %d times", calls)
	}
	if got := ask(t, h, "POST", "/-/reload", "Sec-Fetch-Site", "same-origin"); got.Code != 200 {
		t.Errorf("same origin: %d", got.Code)
	}
}
