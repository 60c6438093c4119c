package policy

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "60s": time.Minute, "1m30s": 90 * time.Second, "1.5h": 90 * time.Minute, "7d": 168 * time.Hour,
		"2w": 336 * time.Hour, "1w1d1h": 193 * time.Hour, "10ms": 10 * time.Millisecond, "5us": 5 * time.Microsecond, "5µs": 5 * time.Microsecond,
		"9ns": 9, ".5s": 500 * time.Millisecond, "1.s": time.Second,
	} {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "5", "-5s", "s", "5 s", "5y", "1h-5m", "1,5h", "300000000h", ".", ".s", "1e5s", "∞"} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", s, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "1B": 1, "20GiB": 20 << 30, "1.5KiB": 1536, "2 MB": 2e6, "1KB": 1000, "3TB": 3e12, "1TiB": 1 << 40, "0.5GB": 5e8,
	} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "5", "-5B", "GiB", "5gb", "5G", "5 GiB ", "5  B", "99999999TiB", "1GiB2MiB"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("ParseSize(%q) = %v, want an error", s, got)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"60s", "1w2d", "1.5h", "0", "-1s", "9223372036s", "1ns1µs"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseDuration(s)
		if err != nil {
			return
		}
		if got < 0 {
			t.Errorf("ParseDuration(%q) = %v", s, got)
		}
		// Where time.ParseDuration reads it too, both read nearly the same.
		if want, err := time.ParseDuration(s); err == nil && math.Abs(float64(got-want)) > 1+math.Abs(float64(want))*1e-9 {
			t.Errorf("ParseDuration(%q) = %v, time.ParseDuration %v", s, got, want)
		}
		// And what it prints can be read back.
		if back, err := ParseDuration(got.String()); err != nil || math.Abs(float64(back-got)) > 1+float64(got)*1e-9 {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", got.String(), back, err, got)
		}
	})
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"20GiB", "1.5KB", "0", "7 B", "9223372036854775807B", "-1B"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseSize(s)
		if err == nil && got < 0 {
			t.Errorf("ParseSize(%q) = %d", s, got)
		}
		if err == nil && s != "0" && !strings.HasSuffix(s, "B") {
			t.Errorf("ParseSize(%q) = %d without a unit", s, got)
		}
	})
}

func TestNearest(t *testing.T) {
	known := []string{"immutable", "revalidate", "tunnel", "ttl", "stale_if_error", "pass"}
	for word, want := range map[string]string{
		"imutable": "immutable", "tttl": "ttl", "tlt": "ttl", "Tunnel": "tunnel", "stale-if-error": "stale_if_error", "past": "pass",
		"revaldiate": "revalidate", "x": "", "proxy": "", "": "", strings.Repeat("a", 100): "",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
