package main

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"larder/admin"
	"larder/daemon"
	"larder/kit"
	"larder/mitm"
	"larder/mitm/hello"
)

func TestFindingsAreGroupedByClient(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 11, 24, 10, minute, 5, 0, time.Local) }
	java := func(host string, minute int) admin.Finding {
		return admin.Finding{
			Client: "10.0.3.7", Host: host, Tool: "java", Title: "a Java-like client", Basis: "its ciphers", Reason: "certificate_unknown",
			Count: 2, First: at(minute), Last: at(minute), Do: "import it", See: "http://10.0.0.5:3128/setup#java",
		}
	}
	all := []admin.Finding{java("repo.example", 9)}
	all = append(all, admin.Finding{
		Client: "10.0.3.7", User: "ci", Host: "repo.example", Tool: "uv", Title: "uv", Basis: "its name", UserAgent: "uv/1", Reason: mitm.ReasonUnknownCA,
		Count: 1, First: at(8), Last: at(8), Mended: at(10), Do: "nothing", See: "nowhere",
	}, admin.Finding{
		Client: "127.0.0.1", Run: "old", Host: "repo.example", Tool: "unknown", Title: "a client", Basis: "nothing", Reason: mitm.ReasonIncompatible,
		Count: 1, First: at(7), Last: at(7), Do: "update it", See: "docs/clients.md",
	})
	for i := range 6 {
		all = append(all, java(fmt.Sprintf("h%d.example", i), 6-i))
	}
	var b strings.Builder
	printFindings(&b, all, time.Hour)
	want := `10.0.3.7: a Java-like client does not trust larder for repo.example, h0.example, h1.example, h2.example, h3.example and 2 hosts more
  seen: certificate_unknown, 14 times, from 2026-11-24 10:01:05 to 2026-11-24 10:09:05
  likely: java, judged by its ciphers
  do: import it
  see: http://10.0.0.5:3128/setup#java

10.0.3.7 (ci): uv does not trust larder for repo.example
  seen: unknown_ca, once, at 2026-11-24 10:08:05
  likely: uv, judged by its name
  calls itself: uv/1
  mended: it has trusted larder at 2026-11-24 10:10:05

larder run old: a client speaks no TLS that larder does, for repo.example
  seen: incompatible, once, at 2026-11-24 10:07:05
  likely: unknown, judged by nothing
  do: update it
  see: docs/clients.md
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("printed (-want +got):\n%s", d)
	}
	b.Reset()
	printFindings(&b, nil, 90*time.Minute)
	if got := b.String(); got != "no client has refused larder's certificates in the last 1h30m\n" {
		t.Errorf("of nothing: %q", got)
	}
}

// TestTunnelledIsShown has one finding that is tunnelled, and one that was.
func TestTunnelledIsShown(t *testing.T) {
	now := time.Now()
	until := now.Add(time.Hour)
	find := func(host string, until time.Time) admin.Finding {
		return admin.Finding{Client: "10.0.3.7", Host: host, Title: "a Go program", Reason: mitm.ReasonBadCertificate, First: now, Last: now, Do: "this", TunnelledUntil: until, TunnelledBy: "pinned"}
	}
	var b strings.Builder
	printFindings(&b, []admin.Finding{find("a.example", until)}, time.Hour)
	if want := "  tunnelled: until " + clock(until) + ", by pinned\n"; !strings.Contains(b.String(), want) {
		t.Errorf("%q is not in\n%s", want, b.String())
	}
	b.Reset()
	printFindings(&b, []admin.Finding{find("a.example", now.Add(-time.Hour))}, time.Hour)
	if strings.Contains(b.String(), "tunnelled") {
		t.Errorf("of one that was:\n%s", b.String())
	}
}

// TestEveryToolHasItsPlaceInTheKit holds the links that the doctor gives to the page
// that they lead to.
func TestEveryToolHasItsPlaceInTheKit(t *testing.T) {
	for _, tool := range hello.Tools() {
		if tool != hello.Unknown && !slices.Contains(kit.Anchors(), tool) {
			t.Errorf("/setup has nothing on %s", tool)
		}
	}
}

func TestRunHintsAtDistrustOnce(t *testing.T) {
	list := func(all ...daemon.Exchange) iter.Seq2[daemon.Exchange, error] {
		return func(yield func(daemon.Exchange, error) bool) {
			for _, e := range all {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
	refused := func(url string) daemon.Exchange {
		return daemon.Exchange{Method: "CONNECT", URL: url, Class: mitm.ClassError, Distrust: mitm.ReasonUnknownCA, Tool: "npm"}
	}
	for _, c := range []struct {
		name string
		list iter.Seq2[daemon.Exchange, error]
		want string
	}{
		{"nobody", list(daemon.Exchange{URL: "a.example:443", Class: mitm.ClassError}), ""},
		{"a tunnel on that account", list(daemon.Exchange{URL: "a.example:443", Class: mitm.ClassTunnel, Distrust: mitm.ReasonUnknownCA}), ""},
		{"one host", list(refused("a.example:443"), refused("a.example:443")), "larder: hint: npm does not trust larder for a.example: set NODE_EXTRA_CA_CERTS"},
		{"several hosts", list(refused("a.example:443"), refused("b.example:443")), "larder: hint: npm does not trust larder for a.example and 1 host more: set"},
	} {
		var b strings.Builder
		printDistrust(&b, c.list)
		if got := b.String(); !strings.HasPrefix(got, c.want) || (c.want == "") != (got == "") || strings.Count(got, "\n") > 1 {
			t.Errorf("%s: %q, want %q...", c.name, got, c.want)
		}
	}
}
