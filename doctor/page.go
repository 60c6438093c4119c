package doctor

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/netip"
	"strings"
)

// Page tells whoever asks for it whether he reaches larder through the proxy, and
// whether he trusts it: by the way that the question came. It is an http.Handler for
// GET and HEAD, and safe for concurrent use.
type Page struct {
	// Name is the host under which larder answers those who come through it, "" if there
	// is none.
	Name string
	// Reach says whether a request came through the proxy, and whether inside of TLS
	// that larder has opened.
	Reach func(*http.Request) (proxied, tls bool)
	// Book is what is known of clients.
	Book *Book
}

// Answer is what Page says. Its names are part of larder's interface.
type Answer struct {
	// Proxy: the request came through the proxy. Trust: over TLS, and its client took
	// the certificate that larder showed; where it is false nothing is known.
	Proxy bool `json:"proxy"`
	Trust bool `json:"trust"`
	// Says is that in a sentence, Next what to ask for then, "" if there is no more.
	Says string `json:"says"`
	Next string `json:"next,omitempty"`
	// Client is the address that the request came from, and Findings how many there are
	// of programs there that do not trust larder.
	Client   string `json:"client"`
	Findings int    `json:"findings"`
}

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := p.answer(r)
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept")
	h.Set("X-Content-Type-Options", "nosniff")
	switch wants(r.Header.Values("Accept")) {
	case "json":
		h.Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a) // a client that is gone is nobody's loss
	case "html":
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		_ = parsePage().Execute(w, a)
	default:
		h.Set("Content-Type", "text/plain; charset=utf-8")
		a.write(w)
	}
}

func (p *Page) answer(r *http.Request) Answer {
	a := Answer{}
	proxied, tls := p.Reach(r)
	a.Proxy, a.Trust = proxied, tls
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		client := ap.Addr().Unmap()
		a.Client, a.Findings = client.String(), p.Book.of(client)
	}
	switch {
	case proxied && tls:
		a.Says = "proxy and trust both work"
	case proxied:
		a.Says = "the proxy is used; whether you trust larder shows over https"
		a.Next = "https://" + p.Name + "/doctor"
	case tls:
		a.Says = "you reach larder directly, and trust its certificate; no proxy is in use"
		a.Next = p.through()
	default:
		a.Says = "you reach larder directly; no proxy is in use"
		a.Next = p.through()
	}
	return a
}

// through is what to ask for to see whether the proxy is used.
func (p *Page) through() string {
	if p.Name == "" {
		return ""
	}
	return "http://" + p.Name + "/doctor"
}

// write is what tools and people at a terminal get.
func (a Answer) write(w io.Writer) {
	fmt.Fprintf(w, "larder: %s\n", a.Says)
	if a.Next != "" {
		fmt.Fprintf(w, "next: %s\n", a.Next)
	}
	if a.Findings > 0 {
		fmt.Fprintf(w, "known of %s: %s\n", a.Client, a.Known())
	}
}

// Known says how many findings there are of the client's address.
func (a Answer) Known() string {
	if a.Findings == 1 {
		return "1 program there does not trust larder; its operator sees which with 'larder doctor'"
	}
	return fmt.Sprintf("%d programs there do not trust larder; its operator sees which with 'larder doctor'", a.Findings)
}

// of counts the programs at an address that do not trust larder.
func (b *Book) of(client netip.Addr) int {
	tools := make(map[string]bool)
	for _, f := range b.Findings() {
		if f.Client == client && f.Mended.IsZero() {
			tools[f.Tool] = true
		}
	}
	return len(tools)
}

// wants is the first of what an Accept names that there is, "text" if none: tools send
// */*, or nothing.
func wants(accept []string) string {
	for field := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		kind, _, _ := strings.Cut(field, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "application/json":
			return "json"
		case "text/html":
			return "html"
		case "text/plain":
			return "text"
		}
	}
	return "text"
}

//go:embed page.html
var pageText string

// parsePage parses what is embedded, so an error is a bug that every test sees.
func parsePage() *template.Template { return template.Must(template.New("doctor").Parse(pageText)) }
