package doctor

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ask asks a page for a request that came in a way.
func ask(b *Book, proxied, tls bool, accept string) *httptest.ResponseRecorder {
	p := &Page{Name: "larder.internal", Book: b, Reach: func(*http.Request) (bool, bool) { return proxied, tls }}
	r := httptest.NewRequest("GET", "/doctor", nil)
	r.RemoteAddr = "10.0.3.7:40000"
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

func TestPageTellsByTheWayItWasAsked(t *testing.T) {
	for _, c := range []struct {
		proxied, tls bool
		text         string
	}{
		{false, false, "larder: you reach larder directly; no proxy is in use\nnext: http://larder.internal/doctor\n"},
		{false, true, "larder: you reach larder directly, and trust its certificate; no proxy is in use\nnext: http://larder.internal/doctor\n"},
		{true, false, "larder: the proxy is used; whether you trust larder shows over https\nnext: https://larder.internal/doctor\n"},
		{true, true, "larder: proxy and trust both work\n"},
	} {
		got := ask(new(Book), c.proxied, c.tls, "*/*")
		if got.Code != 200 || got.Body.String() != c.text || got.Header().Get("Content-Type") != "text/plain; charset=utf-8" || got.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%+v: %d %v %q", c, got.Code, got.Header(), got.Body)
		}
		var a Answer
		if err := json.Unmarshal(ask(new(Book), c.proxied, c.tls, "application/json").Body.Bytes(), &a); err != nil || a.Proxy != c.proxied || a.Trust != c.tls || !strings.Contains(c.text, a.Says) {
			t.Errorf("%+v as JSON: %v %+v", c, err, a)
		}
	}
}

func TestPageSpeaksAsItIsAsked(t *testing.T) {
	for accept, want := range map[string]string{
		"": "text/plain", "*/*": "text/plain", "text/plain": "text/plain", "image/png": "text/plain", "application/json; q=0.9": "application/json",
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": "text/html", "Application/JSON, text/html": "application/json",
	} {
		got := ask(new(Book), true, true, accept)
		if kind, _, _ := strings.Cut(got.Header().Get("Content-Type"), ";"); kind != want {
			t.Errorf("Accept %q: %s, want %s", accept, kind, want)
		}
	}
	html := ask(new(Book), true, false, "text/html")
	for _, part := range []string{"<h1>the proxy is used", `<a href="https://larder.internal/doctor">`, "not tried"} {
		if !strings.Contains(html.Body.String(), part) {
			t.Errorf("no %q in\n%s", part, html.Body)
		}
	}
	if policy := html.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("policy %q", policy)
	}
}

// TestPageCountsWhatIsKnownOfTheClient wants no word of what others, or other hosts, are.
func TestPageCountsWhatIsKnownOfTheClient(t *testing.T) {
	b := new(Book)
	b.Distrusted(refusal())
	b.Distrusted(refusal(host("other.example")))
	b.Distrusted(refusal(func(d *Distrust) { d.Tool = "node" }))
	b.Distrusted(refusal(func(d *Distrust) { d.Tool = "go" }))
	b.Trusted(refusal(func(d *Distrust) { d.Tool, d.Time = "go", time.Now() }))
	b.Distrusted(refusal(func(d *Distrust) { d.Client = netip.MustParseAddr("10.0.3.8") }))
	want := Answer{Proxy: true, Trust: true, Says: "proxy and trust both work", Client: "10.0.3.7", Findings: 2}
	var got Answer
	text := ask(b, true, true, "application/json").Body.Bytes()
	if err := json.Unmarshal(text, &got); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
	for _, accept := range []string{"text/plain", "text/html"} {
		body := ask(b, true, true, accept).Body.String()
		if !strings.Contains(body, "2 programs there do not trust larder") || strings.Contains(body, ".example") {
			t.Errorf("%s: %s", accept, body)
		}
	}
}
