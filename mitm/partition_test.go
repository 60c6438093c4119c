package mitm

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"larder/policy"
)

const bySecret = `
presets: none
default: deny
rules:
  - {name: insiders, hosts: [a.test], users: [alice], action: http, request: {set: {X-Api-Key: s3cret}}}
  - {name: others, hosts: [a.test], users: [bob], action: http}
`

// TestWhatARuleFetchesWithFieldsOfItsOwn is not for the users of other rules, and an
// unsafe request of any of them makes it stale for all.
func TestWhatARuleFetchesWithFieldsOfItsOwn(t *testing.T) {
	addr := plainOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		if r.URL.Path == "/varies" {
			w.Header().Set("Vary", "X-Api-Key")
		}
		text := "for everybody"
		if r.Header.Get("X-Api-Key") == "s3cret" {
			text = "for insiders"
		}
		_, _ = io.WriteString(w, text)
	})
	var log strings.Builder
	w := newWorld(t, bySecret, map[string]string{"a.test:80": addr}, nil, func(o *Options, uo *UpstreamOptions) {
		withRealCache(t, nil)(o, uo)
		o.Access = Access{Authenticator: &fakeAuthenticator{}, Required: true}
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	c := w.dial()
	r := bufio.NewReader(c)
	for i, x := range []struct{ user, method, path, body, status string }{
		{"alice", "GET", "/same", "for insiders", "larder; fwd=uri-miss; stored"},
		{"alice", "GET", "/same", "for insiders", "larder; hit; ttl="},
		{"bob", "GET", "/same", "for everybody", "larder; fwd=uri-miss; stored"},
		{"bob", "GET", "/same", "for everybody", "larder; hit; ttl="},
		{"bob", "PUT", "/same", "for everybody", ""},
		{"alice", "GET", "/same", "for insiders", "larder; fwd=uri-miss; stored"},
		{"bob", "GET", "/same", "for everybody", "larder; fwd=uri-miss; stored"},
		{"alice", "GET", "/varies", "for insiders", "larder; fwd=uri-miss; detail=vary"},
		{"alice", "GET", "/varies", "for insiders", "larder; fwd=uri-miss; detail=vary"},
		{"bob", "GET", "/varies", "for everybody", `larder; fwd=uri-miss; stored; key="x-api-key"`},
		{"bob", "GET", "/varies", "for everybody", "larder; hit; ttl="},
	} {
		res := w.ask(c, r, fmt.Sprintf("%s http://a.test%s HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n%s", x.method, x.path, credentialsOf(x.user)))
		body, _ := io.ReadAll(res.Body)
		got := res.Header.Get("Cache-Status")
		if string(body) != x.body || !strings.HasPrefix(got, x.status) || (got == "") != (x.status == "") {
			t.Errorf("%d: %s to %s of %s: %q, %s", i, x.method, x.path, x.user, body, got)
		}
		if told := fmt.Sprintf("%v %+v", res.Header, w.exchange()); strings.Contains(told, "s3cret") {
			t.Errorf("%d: told %s", i, told)
		}
	}
	_ = w.server.Shutdown(t.Context())
	if strings.Contains(log.String(), "s3cret") {
		t.Errorf("logged:\n%s", log.String())
	}
}

func TestPartitionsOfRules(t *testing.T) {
	field := func(name, value string) []policy.HeaderField {
		return []policy.HeaderField{{Name: name, Value: value}}
	}
	seen := map[string]int{}
	for i, c := range []policy.HeaderChanges{
		{},
		{Set: field("A", "bc")},
		{Set: field("Ab", "c")},
		{Add: field("A", "bc")},
		{Remove: []string{"A", "Bc"}},
		{Remove: []string{"A"}},
		{Remove: []string{"A"}, Set: field("A", "bc")},
		{Set: append(field("A", "bc"), field("A", "bc")...)},
		{Set: field("A", "bc"), Add: field("A", "bc")},
	} {
		p := partition(&policy.Rule{Request: c})
		checked := partition(&policy.Rule{Request: c, Authorized: policy.Recheck})
		if before, ok := seen[checked]; ok || checked == "" {
			t.Errorf("%d has partition %q where upstream is asked, as %d", i, checked, before)
		}
		seen[checked] = i
		if before, ok := seen[p]; ok || (p == "") != (i == 0) {
			t.Errorf("%d has partition %q, as %d", i, p, before)
		}
		seen[p] = i
	}
	set := func(name string) *policy.Rule {
		return &policy.Rule{Request: policy.HeaderChanges{Set: field(name, "b")}}
	}
	if partition(set("x-a")) != partition(set("X-A")) {
		t.Error("the case of a name matters")
	}
}
