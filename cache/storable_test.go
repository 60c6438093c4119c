package cache

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestStorable(t *testing.T) {
	index := &Rule{Mode: Revalidate}
	negative := &Rule{Mode: Immutable, NegativeTTL: time.Minute}
	recheck := &Rule{Mode: Immutable, Access: AccessRecheck}
	none := fields()
	auth := fields("Authorization: Basic x")
	tests := []struct {
		clause   string
		rule     *Rule
		sent     http.Header
		status   int
		response http.Header
		why      string
	}{
		{"immutable: a 200 without anything", immutable, none, 200, none, ""},
		{"immutable: freshness directives mean nothing", immutable, none, 200, fields("Cache-Control: no-cache, max-age=0", "Expires: 0"), ""},
		{"immutable: Set-Cookie is dropped, not obeyed", immutable, none, 200, fields("Set-Cookie: a=b"), ""},
		{"immutable: other statuses", immutable, none, 302, fields("Cache-Control: max-age=60"), "status"},
		{"immutable: 404", immutable, none, 404, none, "status"},
		{"immutable: 404 where the rule says so", negative, none, 404, none, ""},
		{"immutable: 410 likewise", negative, none, 410, none, ""},
		{"immutable: never 403", negative, none, 403, none, "status"},
		{"3: 206 is no whole", immutable, none, 206, fields("Content-Range: bytes 0-1/2"), "status"},
		{"14.4 of 9110: nor is a 200 with Content-Range", immutable, none, 200, fields("Content-Range: bytes 0-1/2"), "partial"},
		{"5.2.2.5: no-store", immutable, none, 200, fields("Cache-Control: no-store"), "no-store"},
		{"5.2.2.7: private", immutable, none, 200, fields("Cache-Control: private"), "private"},
		{"5.2.2.7: private with fields", immutable, none, 200, fields(`Cache-Control: private="x-user"`), ""},
		{"5.2.2.7: private with fields, and without", immutable, none, 200, fields(`Cache-Control: private="x-user"`, "Cache-Control: private"), "private"},
		{"3.5: Authorization", immutable, auth, 200, fields("Cache-Control: max-age=60"), "authorization"},
		{"3.5: public", immutable, auth, 200, fields("Cache-Control: public"), ""},
		{"3.5: must-revalidate", web, auth, 200, fields("Cache-Control: max-age=0, must-revalidate", `Etag: "x"`), ""},
		{"3.5: must-revalidate, where a rule has the word on staleness", immutable, auth, 200, fields("Cache-Control: no-cache, max-age=0, must-revalidate"), "authorization"},
		{"3.5: likewise where stale responses may be served", index, auth, 200, fields("Cache-Control: must-revalidate"), "authorization"},
		{"3.5: s-maxage", index, auth, 200, fields("Cache-Control: s-maxage=60"), ""},
		{"3.5: s-maxage=0 is must-revalidate", index, auth, 200, fields("Cache-Control: s-maxage=0"), "authorization"},
		{"3.5: a Cookie is one too", immutable, fields("Cookie: a"), 200, none, "authorization"},
		{"4.1: Vary *", immutable, none, 200, fields("Vary: Accept, *"), "vary"},
		{"4.1: Vary by who asks", immutable, auth, 200, fields("Vary: Authorization", "Cache-Control: public"), "vary"},
		{"4.1: Vary by who asks, when nobody says", immutable, none, 200, fields("Vary: Authorization"), ""},
		{"4.1: nor by a credential of another name", web, fields("X-Api-Key: s3cret"), 200, fields("Vary: x-api-key", "Cache-Control: max-age=60"), "authorization"},
		{"4.1: nor where it is for everybody", web, fields("X-Api-Key: s3cret"), 200, fields("Vary: x-api-key", "Cache-Control: public, max-age=60"), "vary"},
		{"4.1: one of several", immutable, fields("Private-Token: s3cret"), 200, fields("Vary: Accept, Private-Token", "Cache-Control: public"), "vary"},
		{"4.1: which nobody sends", web, none, 200, fields("Vary: X-Api-Key", "Cache-Control: max-age=60"), ""},
		{"3.5: a credential of another name", web, fields("X-Api-Key: s3cret"), 200, fields("Vary: Accept", "Cache-Control: max-age=60"), "authorization"},
		{"3.5: that is the rule's own", &Rule{Mode: HTTP, OwnFields: []string{"X-Api-Key"}}, fields("X-Api-Key: s3cret"), 200, fields("Vary: Accept", "Cache-Control: max-age=60"), ""},
		{"3.5: what stands for none", web, fields("Authorization: Bearer QQ=="), 200, fields("Cache-Control: max-age=60"), ""},
		{"a rule that selects by a credential", &Rule{Mode: Immutable, Vary: []string{"X-Auth-Token"}}, fields("X-Auth-Token: s3cret"), 200, fields("Cache-Control: public"), "vary"},
		{"recheck: credentials", recheck, auth, 200, none, ""},
		{"recheck: private, of what has one content", recheck, auth, 200, fields("Cache-Control: private"), ""},
		{"recheck: private, of what may be another for each", &Rule{Mode: Revalidate, Access: AccessRecheck}, auth, 200, fields("Cache-Control: private"), "private"},
		{"recheck: no-store", recheck, auth, 200, fields("Cache-Control: no-store"), "no-store"},
		{"recheck: selected by the credential", recheck, auth, 200, fields("Vary: Authorization, Cookie"), ""},
		{"recheck: an index selected by the credential", &Rule{Mode: Revalidate, Access: AccessRecheck}, auth, 200, fields("Vary: Authorization"), "vary"},
		{"public: credentials", &Rule{Mode: Immutable, Access: AccessPublic}, auth, 200, none, ""},
		{"public: private all the same", &Rule{Mode: Immutable, Access: AccessPublic}, auth, 200, fields("Cache-Control: private"), "private"},
		{"a stream of events has no end", immutable, none, 200, fields("Content-Type: text/event-stream; charset=utf-8"), "stream"},

		{"3: freshness", web, none, 200, fields("Cache-Control: max-age=60"), ""},
		{"3: no method or status forbids it: 599", web, none, 599, fields("Cache-Control: max-age=60"), ""},
		{"3: public, and heuristics to go by", web, none, 599, fields("Cache-Control: public", "Last-Modified: "+date(-time.Hour), "Date: "+date(0)), ""},
		{"3: fresh for no time, and no validator", web, none, 200, fields("Cache-Control: max-age=0"), "no-freshness"},
		{"3: fresh for no time, with a validator", web, none, 200, fields("Cache-Control: no-cache", `Etag: "x"`), ""},
		{"5861 4: or for when upstream fails", web, none, 200, fields("Cache-Control: max-age=0, stale-if-error=60"), ""},
		{"3: 206 is no whole here either", web, none, 206, fields("Cache-Control: max-age=9", "Content-Range: bytes 0-1/2"), "status"},
		{"14.4 of 9110: Content-Range in a 200 means nothing", web, none, 200, fields("Cache-Control: max-age=9", "Content-Range: bytes 0-1/2"), ""},
		{"3.5: Authorization, whatever the lifetime", web, auth, 200, fields("Cache-Control: max-age=60"), "authorization"},
		{"3.5: and with a word for all", web, auth, 200, fields("Cache-Control: s-maxage=60"), ""},
		{"7.3: Set-Cookie with a lifetime", web, none, 200, fields("Set-Cookie: a=b", "Cache-Control: max-age=60"), ""},
		{"7.3: Set-Cookie with Expires", web, none, 200, fields("Set-Cookie: a=b", "Expires: "+date(time.Hour)), ""},
		{"7.3: Set-Cookie and only heuristics", web, none, 200, fields("Set-Cookie: a=b", "Last-Modified: "+date(-time.Hour)), "set-cookie"},
		{"7.3: Set-Cookie, validated each time", web, none, 200, fields("Set-Cookie: a=b", "Cache-Control: no-cache, max-age=9", `Etag: "x"`), "set-cookie"},
		{"7.3: Set-Cookie, for no time", web, none, 200, fields("Set-Cookie: a=b", "Cache-Control: public, max-age=0", `Etag: "x"`), "set-cookie"},
		{"5.2.2.7: Set-Cookie that is not kept", web, none, 200, fields("Set-Cookie: a=b", `Cache-Control: private="Set-Cookie"`, `Etag: "x"`), ""},
		{"9213: CDN-Cache-Control is not ours", web, none, 200, fields("Cdn-Cache-Control: max-age=60"), "no-freshness"},
		{"9213: nor does it forbid", web, none, 200, fields("Cdn-Cache-Control: no-store", "Cache-Control: max-age=60"), ""},
		{"5.2.2.3: a status without heuristics is understood too", web, none, 403, fields("Cache-Control: no-store, must-understand, max-age=9"), ""},
		{"3: validator", web, none, 200, fields(`Etag: "x"`), ""},
		{"3: neither", web, none, 200, none, "no-freshness"},
		{"3: any status with freshness", web, none, 302, fields("Cache-Control: max-age=60"), ""},
		{"3: no other status without", web, none, 302, fields(`Etag: "x"`), "no-freshness"},
		{"3: heuristically cacheable", web, none, 404, fields("Last-Modified: " + date(0)), ""},
		{"5.2.2.3: must-understand allows", web, none, 200, fields("Cache-Control: no-store, must-understand, max-age=9"), ""},
		{"5.2.2.3: must-understand forbids", web, none, 299, fields("Cache-Control: must-understand, max-age=9"), "status"},
		{"5.2.2.3: and no-store stays", web, none, 299, fields("Cache-Control: no-store, must-understand, max-age=9"), "status"},
		{"304 is none of a client's", web, none, 304, fields("Cache-Control: max-age=9"), "status"},
	}
	for _, test := range tests {
		t.Run(test.clause, func(t *testing.T) {
			sent := &http.Request{Header: test.sent, URL: mustURL(t, "https://example.org/")}
			resp := &http.Response{StatusCode: test.status, Header: test.response, ProtoMajor: 1, ContentLength: 5}
			if ok, why := storable(test.rule, sent, resp); why != test.why || ok != (why == "") {
				t.Errorf("got %v, %q; want %q", ok, why, test.why)
			}
		})
	}
}

func TestBodiesWhoseEndIsUncertainAreNotStored(t *testing.T) {
	sent := &http.Request{Header: http.Header{}, URL: mustURL(t, "https://example.org/")}
	tests := []struct {
		name string
		resp *http.Response
		why  string
	}{
		{"length", &http.Response{ContentLength: 5, ProtoMajor: 1}, ""},
		{"chunked", &http.Response{ContentLength: -1, ProtoMajor: 1, TransferEncoding: []string{"chunked"}}, ""},
		{"HTTP/2", &http.Response{ContentLength: -1, ProtoMajor: 2}, ""},
		{"ended by close", &http.Response{ContentLength: -1, ProtoMajor: 1}, "close-delimited"},
		{"decoded by the transport", &http.Response{ContentLength: -1, ProtoMajor: 2, Uncompressed: true}, "recoded"},
		{"larger than the rule allows", &http.Response{ContentLength: 11, ProtoMajor: 1}, "too-large"},
	}
	for _, test := range tests {
		test.resp.StatusCode, test.resp.Header = 200, http.Header{}
		if _, why := storable(&Rule{Mode: Immutable, MaxObject: 10}, sent, test.resp); why != test.why {
			t.Errorf("%s: %q, want %q", test.name, why, test.why)
		}
	}
}

func TestStoredHeader(t *testing.T) {
	got := storedHeader(fields(
		"Connection: close, X-Hop", "X-Hop: 1", "Keep-Alive: 5", "Proxy-Authenticate: Basic", "Transfer-Encoding: chunked",
		"Set-Cookie: a", "Alt-Svc: h3", `Cache-Control: private="X-User, x-other", max-age=5`, "X-User: me", "X-Other: me",
		"Docker-Content-Digest: sha256:0", "Link: a", "Link: b", "Date: "+date(0),
	), immutable, at)
	want := fields(`Cache-Control: private="X-User, x-other", max-age=5`, "Docker-Content-Digest: sha256:0", "Link: a", "Link: b", "Date: "+date(0))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestWhatATransportsOwnCredentialReads is stored as RFC 9111, section 3.5, has it
// for a client's: what the transport says it sent counts.
func TestWhatATransportsOwnCredentialReads(t *testing.T) {
	sent := &http.Request{Header: http.Header{}, URL: mustURL(t, "https://example.org/")}
	injected := &http.Request{Header: fields("Authorization: Bearer x"), URL: sent.URL}
	for _, test := range []struct {
		name     string
		request  *http.Request
		response http.Header
		why      string
	}{
		{"the same", sent, http.Header{}, ""},
		{"no word of it", nil, http.Header{}, ""},
		{"injected", injected, http.Header{}, "injected"},
		{"injected, with a lifetime", injected, fields("Cache-Control: max-age=60"), "injected"},
		{"injected and public", injected, fields("Cache-Control: public"), ""},
		{"injected and s-maxage", injected, fields("Cache-Control: s-maxage=9"), ""},
		{"injected and private", injected, fields("Cache-Control: private, s-maxage=9"), "private"},
	} {
		resp := &http.Response{StatusCode: 200, Header: test.response, ProtoMajor: 1, ContentLength: 5, Request: test.request}
		if _, why := storable(immutable, sent, resp); why != test.why {
			t.Errorf("%s: %q, want %q", test.name, why, test.why)
		}
	}
}
