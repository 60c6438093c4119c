package cache

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNotModified(t *testing.T) {
	tagged := fields(`Etag: "a"`, "Last-Modified: "+date(0), "Date: "+date(time.Hour))
	tests := []struct {
		clause   string
		request  http.Header
		response http.Header
		status   int
		want     bool
	}{
		{"13.1.2: a tag", fields(`If-None-Match: "a"`), tagged, 200, true},
		{"13.1.2: in a list", fields(`If-None-Match: "x", W/"a"`), tagged, 200, true},
		{"13.1.2: in another line", fields(`If-None-Match: "x"`, `If-None-Match: "a"`), tagged, 200, true},
		{"13.1.2: any", fields("If-None-Match: *"), tagged, 200, true},
		{"13.1.2: another", fields(`If-None-Match: "b"`), tagged, 200, false},
		{"8.8.3.2: weakly", fields(`If-None-Match: "a"`), fields(`Etag: W/"a"`), 200, true},
		{"a comma inside a tag", fields(`If-None-Match: "x,"a"`), fields(`Etag: "a"`), 200, false},
		{"a tag without quotes", fields(`If-None-Match: a`), fields(`Etag: a`), 200, true},
		{"13.2.2: a tag outweighs a date", fields(`If-None-Match: "b"`, "If-Modified-Since: "+date(time.Hour)), tagged, 200, false},
		{"13.1.3: not modified since", fields("If-Modified-Since: " + date(0)), tagged, 200, true},
		{"13.1.3: modified since", fields("If-Modified-Since: " + date(-time.Second)), tagged, 200, false},
		{"13.1.3: an invalid date is ignored", fields("If-Modified-Since: now"), tagged, 200, false},
		{"4.3.2 of 9111: Date in place of Last-Modified", fields("If-Modified-Since: " + date(0)), fields("Date: " + date(0)), 200, true},
		{"4.3.2 of 9111: or when it was received", fields("If-Modified-Since: " + date(0)), fields(), 200, true},
		{"only for what would be a 200", fields("If-None-Match: *"), tagged, 404, false},
	}
	for _, test := range tests {
		t.Run(test.clause, func(t *testing.T) {
			if got := notModified(test.request, test.response, test.status, at); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestFreshened(t *testing.T) {
	stored := &record{
		kind: kindObject, status: 200, etag: `"a"`, requested: at, received: at,
		header: fields(
			`Etag: "a"`, "Vary: Accept-Encoding, Accept", "Content-Type: text/html", "Content-Length: 9", "Content-Encoding: gzip",
			"Cache-Control: max-age=5", "Age: 7", "X-Kept: 1", "X-Changed: 1", "Date: "+date(0),
		),
	}
	got := freshened(stored, fields(
		`Etag: W/"b"`, "Vary: Accept-Encoding", "Content-Type: text/plain", "Content-Length: 0", "Content-Encoding: br",
		"Cache-Control: max-age=6", "X-Changed: 2", "X-Changed: 3", "X-New: 1", "Set-Cookie: a", "Connection: x-hop", "X-Hop: 1",
		"Date: "+date(time.Hour), "Last-Modified: "+date(-time.Hour),
	), immutable, at.Add(time.Hour), at.Add(2*time.Hour))
	want := *stored
	want.requested, want.received, want.lastModified = at.Add(time.Hour), at.Add(2*time.Hour), date(-time.Hour)
	want.header = fields(
		`Etag: "a"`, "Vary: Accept-Encoding, Accept", "Content-Type: text/html", "Content-Length: 9", "Content-Encoding: gzip",
		"Cache-Control: max-age=6", "X-Kept: 1", "X-Changed: 2", "X-Changed: 3", "X-New: 1",
		"Date: "+date(time.Hour), "Last-Modified: "+date(-time.Hour),
	)
	if diff := cmp.Diff(&want, got, cmp.AllowUnexported(record{})); diff != "" {
		t.Error(diff)
	}
	if stored.header.Get("X-Changed") != "1" || stored.header.Get("Age") != "7" {
		t.Error("the old record was changed")
	}
}

func TestSelects(t *testing.T) {
	stored := &record{etag: `"a"`, header: fields(`Etag: "old"`)}
	for _, test := range []struct {
		clause string
		header http.Header
		want   bool
	}{
		{"4.3.4: no validator", fields(), true},
		{"4.3.4: the strong one", fields(`Etag: "a"`), true},
		{"the one that clients know", fields(`Etag: "old"`), true},
		{"4.3.4: another strong one", fields(`Etag: "b"`), false},
		{"4.3.4: a weak one", fields(`Etag: W/"b"`), true},
	} {
		if got := selects(stored, test.header, Revalidate); got != test.want {
			t.Errorf("%s: %v", test.clause, got)
		}
	}
}

func FuzzEntityTags(f *testing.F) {
	f.Add(`"a", W/"b", *, c`, `"a"`)
	f.Add(`"`, `"`)
	f.Add(`W/,`, `W/`)
	f.Fuzz(func(t *testing.T, list, tag string) {
		matchesTag([]string{list}, tag)
		for rest, n := list, 0; rest != ""; n++ {
			before := len(rest)
			if _, rest = nextTag(rest); len(rest) >= before || n > len(list) {
				t.Fatalf("no progress in %q", list)
			}
		}
	})
}
