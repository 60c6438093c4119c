package policy

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// busy is the built-in policy with 2000 rules of an operator's own before it.
func busy(tb testing.TB) *Policy {
	tb.Helper()
	var b strings.Builder
	b.WriteString("presets: all\nrules:\n")
	b.WriteString("  - { name: staged, hosts: [\"*\"], clients: [198.51.100.0/24, \"fd00:1::/32\"], methods: [PUT], action: deny, mode: report }\n")
	b.WriteString("  - { name: guests, hosts: [\"*\"], users: [guest, visitor], methods: [DELETE], action: deny }\n")
	for i := range 2000 {
		fmt.Fprintf(&b, "  - { name: r%d, hosts: [\"*.h%d.corp.test\"], paths: [\"/a/**\"], action: immutable }\n", i, i)
	}
	return mustParse(tb, b.String())
}

// requests are what clients send most, with the last rule of a host as the
// worst case.
func requests(tb testing.TB) map[string]*url.URL {
	const npm = "https://registry." + "npmjs.org"
	return map[string]*url.URL{
		"tarball":   mustURL(tb, npm+"/@types/node/-/node-22.1.0.tgz"),
		"packument": mustURL(tb, npm+"/is-number"),
		"last-rule": mustURL(tb, npm+"/"),
		"wheel":     mustURL(tb, "https://files."+"pythonhosted.org/packages/b2/40/4f1f2e6d0b8c1c5e0b4a5d3c2b1a09f8e7d6c5b4a392817065f4e3d2c1b0/x-1.0-py3-none-any.whl"),
		"deb":       mustURL(tb, "http://deb."+"debian.org/debian/pool/main/c/curl/curl_7.88.1-10%2bdeb12u5_amd64.deb"),
		"jar":       mustURL(tb, "https://repo."+"maven.apache.org/maven2/junit/junit/4.13.2/junit-4.13.2.jar"),
		"module":    mustURL(tb, "https://proxy."+"golang.org/golang.org/x/text/@v/v0.3.0.zip"),
		"crate":     mustURL(tb, "https://static."+"crates.io/crates/serde/1.0.219/download"),
		"unknown":   mustURL(tb, "https://a.b.c.unknown.example/x/y"),
		"operator":  mustURL(tb, "https://files.h1999.corp.test/a/b"),
	}
}

func TestDecidingAllocatesNothing(t *testing.T) {
	p := busy(t)
	c := asks()
	for name, u := range requests(t) {
		if n := testing.AllocsPerRun(100, func() { p.Classify(c, "GET", u) }); n > 0 {
			t.Errorf("Classify of a %s allocates %v times", name, n)
		}
		if n := testing.AllocsPerRun(100, func() { p.Connect(c, u.Host, 443) }); n > 0 {
			t.Errorf("Connect for a %s allocates %v times", name, n)
		}
	}
}

// asks is a client for which every condition on clients and users is looked at.
func asks() Client { return Client{Addr: netip.MustParseAddr("::ffff:198.51.100.7"), User: "ci"} }

func BenchmarkClassify(b *testing.B) {
	p, c := busy(b), asks()
	for name, u := range requests(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Classify(c, "GET", u)
			}
		})
	}
}

func BenchmarkConnect(b *testing.B) {
	p, c := busy(b), asks()
	for _, host := range []string{"registry." + "npmjs.org", "a.b.c.unknown.example", "10.1.2.3"} {
		name, _, _ := strings.Cut(host, ".")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Connect(c, host, 443)
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, err := Load(""); err != nil {
			b.Fatal(err)
		}
	}
}
