package cache

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func joined(list []string) string { return strings.Join(list, " ") }

// at is a moment with whole seconds, as HTTP dates have.
var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func date(offset time.Duration) string { return at.Add(offset).Format(http.TimeFormat) }

// fields makes a header of "Name: value" lines.
func fields(lines ...string) http.Header {
	h := http.Header{}
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		h.Add(name, value)
	}
	return h
}

func TestFreshnessLifetime(t *testing.T) {
	tests := []struct {
		clause string
		status int
		header http.Header
		want   time.Duration
	}{
		{"4.2.1: s-maxage first", 200, fields("Cache-Control: max-age=10, s-maxage=20", "Expires: "+date(time.Hour)), 20 * time.Second},
		{"4.2.1: then max-age", 200, fields("Cache-Control: max-age=10", "Expires: "+date(time.Hour), "Date: "+date(0)), 10 * time.Second},
		{"4.2.1: then Expires minus Date", 200, fields("Expires: "+date(time.Hour), "Date: "+date(0)), time.Hour},
		{"4.2.1: of two the stricter", 200, fields("Cache-Control: max-age=10", "Cache-Control: max-age=5"), 5 * time.Second},
		{"4.2.1: what cannot be read is stale", 200, fields("Cache-Control: max-age=ten", "Expires: "+date(time.Hour)), 0},
		{"4.2.1: a quoted number is read", 200, fields(`Cache-Control: max-age="7"`), 7 * time.Second},
		{"4.2: an Expires in another zone is invalid", 200, fields("Expires: Sun, 01 Mar 2026 13:00:00 UTC", "Date: "+date(0)), 0},
		{"4.2: and one with a digit too few", 200, fields("Expires: Sun, 01 Mar 2026 13:00:0 GMT", "Date: "+date(0)), 0},
		{"4.2: the obsolete form", 200, fields("Expires: Sunday, 01-Mar-26 13:00:00 GMT", "Date: "+date(0)), time.Hour},
		{"4.2: case does not matter", 200, fields("Expires: sun, 01 mar 2026 13:00:00 gmt", "Date: "+date(0)), time.Hour},
		{"4.2.1: Expires counts from receipt without Date", 200, fields("Expires: " + date(time.Hour)), time.Hour},
		{"5.3: an invalid Expires is in the past", 200, fields("Expires: 0", "Last-Modified: "+date(-time.Hour)), 0},
		{"1.2.2: overflow is 2^31", 200, fields("Cache-Control: max-age=99999999999999999999"), (1 << 31) * time.Second},
		{"4.2.2: a tenth since the modification", 200, fields("Last-Modified: "+date(-10*time.Hour), "Date: "+date(0)), time.Hour},
		{"4.2.2: at most a day", 200, fields("Last-Modified: "+date(-10000*time.Hour), "Date: "+date(0)), 24 * time.Hour},
		{"4.2.2: no heuristics for others", 302, fields("Last-Modified: "+date(-10*time.Hour), "Date: "+date(0)), 0},
		{"4.2.2: unless public", 302, fields("Cache-Control: public", "Last-Modified: "+date(-10*time.Hour), "Date: "+date(0)), time.Hour},
		{"4.2.2: nothing to go by", 200, fields("Date: " + date(0)), 0},
		{"5.2: names are case-insensitive", 200, fields("Cache-Control: MAX-AGE=3"), 3 * time.Second},
		{"5.2: a name inside a quoted string is none", 200, fields(`Cache-Control: x="max-age=9, y", max-age=4`), 4 * time.Second},
	}
	for _, test := range tests {
		t.Run(test.clause, func(t *testing.T) {
			m := &record{status: test.status, header: test.header, received: at}
			if got := freshnessLifetime(m, parseCacheControl(test.header["Cache-Control"])); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestCurrentAge(t *testing.T) {
	tests := []struct {
		clause string
		header http.Header
		delay  time.Duration // between request and response
		now    time.Duration // after the response
		want   time.Duration
	}{
		{"4.2.3: resident time", fields("Date: " + date(0)), 0, 7 * time.Second, 7 * time.Second},
		{"4.2.3: apparent age", fields("Date: " + date(-5*time.Second)), 0, 1 * time.Second, 6 * time.Second},
		{"4.2.3: a Date ahead of us", fields("Date: " + date(5*time.Second)), 0, time.Second, time.Second},
		{"4.2.3: Age and response delay", fields("Date: "+date(0), "Age: 100"), 2 * time.Second, time.Second, 103 * time.Second},
		{"5.1: an invalid Age is ignored", fields("Date: "+date(0), "Age: old"), 0, time.Second, time.Second},
		{"5.1: the first of several", fields("Date: "+date(0), "Age: 3, 9"), 0, 0, 3 * time.Second},
		{"no Date", fields("Age: 3"), 0, time.Second, 4 * time.Second},
	}
	for _, test := range tests {
		t.Run(test.clause, func(t *testing.T) {
			m := &record{header: test.header, requested: at.Add(-test.delay), received: at}
			if got := currentAge(m, at.Add(test.now)); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	hour := &Rule{Mode: Revalidate, TTL: time.Hour}
	serving := &Rule{Mode: Revalidate, TTL: time.Minute, StaleIfError: time.Hour, StaleWhileRevalidate: time.Minute}
	tests := []struct {
		clause  string
		rule    *Rule
		status  int
		stored  string // Cache-Control
		request string // Cache-Control
		age     time.Duration
		want    string // of: fresh swr sie request
	}{
		{"immutable: for ever", immutable, 200, "no-cache, max-age=0", "no-cache", 9000 * time.Hour, "fresh"},
		{"immutable: for its TTL", &Rule{Mode: Immutable, TTL: time.Hour}, 200, "", "max-age=0", 59 * time.Minute, "fresh"},
		{"immutable: then not", &Rule{Mode: Immutable, TTL: time.Hour}, 200, "max-age=99999", "", 61 * time.Minute, ""},
		{"immutable: a 404 has a lifetime of its own", &Rule{Mode: Immutable, NegativeTTL: time.Minute}, 404, "", "", 2 * time.Minute, ""},
		{"immutable: and its own freshness", &Rule{Mode: Immutable, NegativeTTL: time.Minute}, 410, "", "", 30 * time.Second, "fresh"},
		{"revalidate: fresh for TTL whatever the origin says", hour, 200, "max-age=0", "", 30 * time.Minute, "fresh"},
		{"revalidate: 5.2.1.4 no-cache", hour, 200, "", "no-cache", time.Minute, "request"},
		{"revalidate: 5.2.1.1 max-age=0", hour, 200, "", "max-age=0", 0, "request"},
		{"revalidate: 5.2.1.1 max-age exceeded", hour, 200, "", "max-age=30", time.Minute, "request"},
		{"revalidate: 5.2.1.1 max-age kept", hour, 200, "", "max-age=90", time.Minute, "fresh"},
		{"revalidate: 5.2.1.3 min-fresh", hour, 200, "", "min-fresh=1800", 45 * time.Minute, "request"},
		{"revalidate: TTL 0 is validated each time", &Rule{Mode: Revalidate}, 200, "max-age=600", "", 0, ""},
		{"5861 3 and 4: within both", serving, 200, "", "", 90 * time.Second, "swr sie"},
		{"5861 4: only on error", serving, 200, "", "", 30 * time.Minute, "sie"},
		{"5861: neither", serving, 200, "", "", 2 * time.Hour, ""},
		{"5861 3: not against the client's word", serving, 200, "", "no-cache", 90 * time.Second, "sie"},
		{"stale-if-error holds for what the client wants validated", serving, 200, "", "no-cache", 0, "sie request"},

		{"4.2: fresh", web, 200, "max-age=60", "", 59 * time.Second, "fresh"},
		{"4.2: stale", web, 200, "max-age=60", "", 60 * time.Second, ""},
		{"5.2.2.4: no-cache", web, 200, "max-age=60, no-cache", "", 0, ""},
		{"5.2.2.4: no-cache of fields leaves the rest", web, 200, `max-age=60, no-cache="x-user"`, "", 0, "fresh"},
		{"5.2.2.4: and does not forbid stale", web, 200, `max-age=60, no-cache="x-user"`, "max-stale", 90 * time.Second, "fresh"},
		{"8246 2: immutable is not validated for max-age=0", web, 200, "max-age=60, immutable", "max-age=0", 5 * time.Second, "fresh"},
		{"8246 2: but for no-cache", web, 200, "max-age=60, immutable", "no-cache", 5 * time.Second, "request"},
		{"8246 2: and when it is stale", web, 200, "max-age=60, immutable", "", 61 * time.Second, ""},
		{"5861 4: the request's", web, 200, "max-age=60", "stale-if-error=30", 80 * time.Second, "sie"},
		{"5861 4: the rule's", &Rule{Mode: HTTP, StaleIfError: time.Hour}, 200, "max-age=60", "", 80 * time.Second, "sie"},
		{"4.2.4: the rule's never against must-revalidate", &Rule{Mode: HTTP, StaleIfError: time.Hour, StaleWhileRevalidate: time.Hour}, 200, "max-age=60, must-revalidate", "", 80 * time.Second, ""},
		{"4.2.4: nor against no-cache", &Rule{Mode: HTTP, StaleIfError: time.Hour, StaleWhileRevalidate: time.Hour}, 200, "max-age=60, no-cache", "", 80 * time.Second, ""},
		{"5861 3: the rule's", &Rule{Mode: HTTP, StaleWhileRevalidate: time.Minute}, 200, "max-age=60", "", 80 * time.Second, "swr"},
		{"5.2.1.4: request no-cache", web, 200, "max-age=60", "no-cache", 0, "request"},
		{"5.2.1.2: max-stale within", web, 200, "max-age=60", "max-stale=10", 65 * time.Second, "fresh"},
		{"5.2.1.2: max-stale exceeded", web, 200, "max-age=60", "max-stale=10", 75 * time.Second, ""},
		{"5.2.1.2: max-stale of any length", web, 200, "max-age=60", "max-stale", 9999 * time.Second, "fresh"},
		{"5.2.2.2: must-revalidate forbids it", web, 200, "max-age=60, must-revalidate", "max-stale", 61 * time.Second, ""},
		{"5.2.2.8: proxy-revalidate", web, 200, "max-age=60, proxy-revalidate", "max-stale", 61 * time.Second, ""},
		{"5.2.2.10: s-maxage implies it", web, 200, "s-maxage=60", "max-stale", 61 * time.Second, ""},
		{"5.2.1.1 with 5.2.1.2", web, 200, "max-age=60", "max-age=10, max-stale=100", 70 * time.Second, ""},
		{"5861 3", web, 200, "max-age=60, stale-while-revalidate=30", "", 80 * time.Second, "swr"},
		{"5861 4", web, 200, "max-age=60, stale-if-error=30", "", 80 * time.Second, "sie"},
		{"5861 4: never against must-revalidate", web, 200, "max-age=60, must-revalidate, stale-if-error=30", "", 80 * time.Second, ""},
	}
	for _, test := range tests {
		t.Run(test.clause, func(t *testing.T) {
			h := fields("Date: " + date(0))
			if test.stored != "" {
				h.Set("Cache-Control", test.stored)
			}
			m := &record{status: test.status, header: h, requested: at, received: at}
			var req directives
			if test.request != "" {
				req = parseCacheControl([]string{test.request})
			}
			j := judge(m, test.rule, req, at.Add(test.age))
			var got []string
			for _, p := range []struct {
				on   bool
				name string
			}{
				{j.fresh, "fresh"},
				{j.whileRevalidate && !j.fresh, "swr"},
				{j.ifError && !j.fresh, "sie"},
				{j.because == "request", "request"},
			} {
				if p.on {
					got = append(got, p.name)
				}
			}
			if joined(got) != test.want {
				t.Errorf("got %q, want %q", joined(got), test.want)
			}
		})
	}
}

func TestRequestDirectives(t *testing.T) {
	if !requestDirectives(fields("Pragma: no-cache")).has("no-cache") {
		t.Error("5.4: Pragma alone is no-cache")
	}
	if requestDirectives(fields("Pragma: no-cache", "Cache-Control: max-age=5")).has("no-cache") {
		t.Error("5.4: Pragma counts only without Cache-Control")
	}
}

func FuzzCacheControl(f *testing.F) {
	for _, s := range []string{
		"max-age=1, no-cache", `private="set-cookie, x", s-maxage=3`, `a="b\"c,d", e`, `="`, `x="\`, ",,=,", "max-age=",
		`no-cache="`, "max-age=1, max-age=2",
	} {
		f.Add(s, "public")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		d := parseCacheControl([]string{a, b})
		for name, arg := range d {
			if name == "" {
				t.Error("a directive without name")
			}
			if v, ok := d.seconds(name); !ok || v < 0 || v > (1<<31)*time.Second {
				t.Errorf("%s=%q is %v", name, arg, v)
			}
			d.fields(name)
		}
		// What follows an innocent line is read whatever that was before it.
		if !strings.Contains(b, `"`) && !parseCacheControl([]string{b, "x-last"}).has("x-last") {
			t.Errorf("%q hides the next line", b)
		}
	})
}
