package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"larder/mitm/hello"
)

// refusal is one of a Java-like client, with changes.
func refusal(change ...func(*Distrust)) Distrust {
	d := Distrust{
		Time: time.Now(), Client: netip.MustParseAddr("10.0.3.7"), Host: "repo.example", Via: "10.0.0.5:3128",
		Tool: "java", Title: "a Java-like client", Basis: "its ciphers", JA4: "t13", Reason: "certificate_unknown", Count: 1,
	}
	for _, c := range change {
		c(&d)
	}
	return d
}

func host(name string) func(*Distrust) { return func(d *Distrust) { d.Host = name } }

func TestFindingsAreCountedApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Book
		b.Distrusted(refusal())
		for _, change := range []func(*Distrust){
			func(d *Distrust) { d.Client = netip.MustParseAddr("10.0.3.8") },
			func(d *Distrust) { d.User = "ci" },
			func(d *Distrust) { d.Run = "mvn" },
			host("other.example"),
			func(d *Distrust) { d.Tool = "node" },
			func(d *Distrust) { d.Reason = "unknown_ca" },
		} {
			time.Sleep(time.Second)
			b.Distrusted(refusal(change))
		}
		time.Sleep(time.Second)
		b.Distrusted(refusal(func(d *Distrust) { d.Count, d.UserAgent, d.JA4 = 2, "x", "t12" }))
		all := b.Findings()
		if len(all) != 7 {
			t.Fatalf("%d findings", len(all))
		}
		if f := all[0]; f.Count != 3 || f.Last.Sub(f.First) != 7*time.Second || f.UserAgent != "x" || f.JA4 != "t12" || !f.Mended.IsZero() {
			t.Errorf("the newest is %+v", f)
		}
		if all[1].Reason != "unknown_ca" || all[6].Client.String() != "10.0.3.8" {
			t.Errorf("not newest first: %+v", all)
		}
		if n := b.Clear(); n != 7 || len(b.Findings()) != 0 {
			t.Errorf("cleared %d", n)
		}
		b.Distrusted(refusal())
		if all := b.Findings(); len(all) != 1 || all[0].Count != 1 {
			t.Errorf("after clearing: %+v", all)
		}
	})
}

func TestFindingsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Book
		b.Distrusted(refusal(host("first.example")))
		b.Distrusted(refusal(host("second.example")))
		b.Distrusted(refusal(host("first.example")))
		for i := range maxFindings - 1 {
			b.Distrusted(refusal(host(fmt.Sprintf("h%d.example", i))))
		}
		all := b.Findings()
		if len(all) != maxFindings || all[maxFindings-1].Host != "first.example" {
			t.Errorf("%d findings, the last is %+v", len(all), all[len(all)-1])
		}
		time.Sleep(keep)
		b.Distrusted(refusal(host("late.example")))
		time.Sleep(time.Second)
		if all := b.Findings(); len(all) != 1 || all[0].Host != "late.example" || len(b.found) != 1 {
			t.Errorf("after %v there are %d, %+v", keep, len(all), all)
		}
	})
}

func TestMendedUntilItRefusesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Book
		b.Distrusted(refusal())
		b.Distrusted(refusal(host("other.example")))
		b.Distrusted(refusal(func(d *Distrust) { d.Tool = "node" }))
		time.Sleep(time.Minute)
		b.Trusted(refusal(host("repo.example")))
		find := func(host, tool string) Finding {
			t.Helper()
			for _, f := range b.Findings() {
				if f.Host == host && f.Tool == tool {
					return f
				}
			}
			t.Fatalf("no finding of %s for %s", tool, host)
			return Finding{}
		}
		if f := find("repo.example", "java"); !f.Mended.Equal(time.Now()) {
			t.Errorf("mended: %+v", f)
		}
		if f := find("other.example", "java"); !f.Mended.IsZero() || !f.Elsewhere.Equal(time.Now()) || f.Pinned || !strings.Contains(f.Do, "may be mended") {
			t.Errorf("for another host: %+v", f)
		}
		if f := find("repo.example", "node"); !f.Mended.IsZero() || !f.Elsewhere.IsZero() {
			t.Errorf("of another program: %+v", f)
		}
		time.Sleep(time.Minute)
		b.Distrusted(refusal(func(d *Distrust) { d.Elsewhere = time.Now().Add(-time.Second) }))
		if f := find("repo.example", "java"); !f.Mended.IsZero() || !f.Pinned || !strings.Contains(f.Do, "on_distrust: tunnel") {
			t.Errorf("when it refuses again: %+v", f)
		}
	})
}

func TestTunnelledUntilItTrusts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Book
		b.Distrusted(refusal())
		b.Distrusted(refusal(func(d *Distrust) { d.Reason = "alert" }))
		b.Distrusted(refusal(host("other.example")))
		until := time.Now().Add(time.Hour)
		b.Tunnelled(refusal(func(d *Distrust) { d.Until, d.By = until, "pinned" }))
		all := b.Findings()
		if all[0].Until != (time.Time{}) || all[1].Until != until || all[2].Until != until || all[1].By != "pinned" {
			t.Errorf("findings %+v", all)
		}
		b.Trusted(refusal())
		if f := b.Findings()[1]; !f.Until.IsZero() || f.Mended.IsZero() {
			t.Errorf("once it trusts larder: %+v", f)
		}
	})
}

func TestAdviceForEveryTool(t *testing.T) {
	rest := remedies()[""]
	for _, tool := range hello.Tools() {
		if do := remedies()[tool]; (tool == hello.Unknown) != (do == "") || do == rest || strings.HasSuffix(do, ".") {
			t.Errorf("%s: %q", tool, do)
		}
	}
	for tool := range remedies() {
		if tool != "" && !slices.Contains(hello.Tools(), tool) {
			t.Errorf("%s is no tool", tool)
		}
	}
	if ForTool("unheard of") != rest {
		t.Error("nothing is said of an unknown tool")
	}
}

func TestAdviceByReason(t *testing.T) {
	for reason, want := range map[string]string{
		"incompatible": "TLS 1.2", "certificate_expired": "clock", "bad_certificate_status_response": "OCSP", "no_answer": "MTU", "unknown_ca": "JAVA_TOOL_OPTIONS",
	} {
		if do := Advice(&Finding{Tool: "java", Reason: reason}); !strings.Contains(do, want) {
			t.Errorf("%s: %q has nothing of %q", reason, do, want)
		}
	}
}

func TestSeeIsWhereTheClientReachesLarder(t *testing.T) {
	for _, c := range []struct{ tool, via, want string }{
		{"java", "10.0.0.5:3128", "http://10.0.0.5:3128/setup#java"},
		{"npm", "[2001:db8::1]:3128", "http://[2001:db8::1]:3128/setup#npm"},
		{"unheard of", "10.0.0.5:3128", "http://10.0.0.5:3128/setup"},
		{"java", "", "docs/clients.md"},
		{"java", "pipe", "docs/clients.md"},
	} {
		if got := see(c.tool, c.via); got != c.want {
			t.Errorf("%s at %q: %s, want %s", c.tool, c.via, got, c.want)
		}
	}
}
