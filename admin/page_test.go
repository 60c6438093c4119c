package admin

import (
	"strings"
	"testing"
)

func TestPageShowsOnlyWhatThereIs(t *testing.T) {
	h := New(Options{})
	page := ask(t, h, "GET", "/").Body.String()
	for _, s := range []string{"/metrics", "/-/reload", "objects", "not ready"} {
		if strings.Contains(page, s) {
			t.Errorf("the page has %q without anything behind it", s)
		}
	}
	for _, path := range []string{"/metrics", "/nothing"} {
		if got := ask(t, h, "GET", path); got.Code != 404 {
			t.Errorf("GET %s: %d, want 404", path, got.Code)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 20 << 30: "20.0 GiB", 5 << 40: "5.0 TiB", 5 << 50: "5120.0 TiB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}
