package policy

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestOnDistrust: each row is a policy for host.test, and what becomes of a client that
// keeps refusing the certificate. Refusing certificates must be no way round anything.
func TestOnDistrust(t *testing.T) {
	const tunnels = "{name: pinned, hosts: [host.test], action: pass, on_distrust: tunnel, distrust_after: 2, distrust_ttl: 6h}"
	for _, c := range []struct {
		name  string
		file  string
		after int    // 0: not tunnelled
		rule  string // that says so
		why   string // part of
	}{
		{name: "nothing is said", file: "rules: [{name: r, hosts: [host.test], action: pass}]"},
		{name: "no rule", file: "presets: none"},
		{name: "a rule says tunnel", file: "rules: [" + tunnels + "]", after: 2, rule: "pinned"},
		{name: "with what holds if nothing else is said", file: "rules: [{name: r, hosts: [host.test], action: immutable, on_distrust: tunnel}]", after: 3, rule: "r"},
		{name: "the setting says tunnel", file: "on_distrust: tunnel\nrules: [{name: r, hosts: [host.test], action: pass}]", after: 3},
		{name: "the setting says tunnel and the rule refuse", file: "on_distrust: tunnel\nrules: [{name: r, hosts: [host.test], action: pass, on_distrust: refuse}]"},
		{name: "one of the host's rules says tunnel", file: "rules: [{name: files, hosts: [host.test], paths: [/f/**], action: immutable}, " + tunnels + "]", after: 2, rule: "pinned"},
		{name: "another refuse, before it", file: "rules: [{name: files, hosts: [host.test], paths: [/f/**], action: immutable, on_distrust: refuse}, " + tunnels + "]"},
		{name: "another refuse, behind it", file: "rules: [{name: files, hosts: [host.test], paths: [/f/**], action: immutable, on_distrust: tunnel}, {name: rest, hosts: [host.test], action: pass, on_distrust: refuse}]"},
		{name: "a rule that nothing comes to says refuse", file: "rules: [" + tunnels + ", {name: more, hosts: ['*.test'], action: pass, on_distrust: refuse}]", after: 2, rule: "pinned"},
		{name: "the first of two decides for how long", file: "rules: [{name: files, hosts: [host.test], paths: [/f/**], action: immutable, on_distrust: tunnel, distrust_after: 5}, " + tunnels + "]", after: 5, rule: "files"},
		{name: "it is for another port", file: "rules: [{name: r, hosts: [host.test], ports: [8443], action: pass, on_distrust: tunnel}, {name: rest, hosts: [host.test], action: pass}]"},
		{name: "it is for another client", file: "rules: [{name: r, hosts: [host.test], clients: [10.9.0.0/16], action: pass, on_distrust: tunnel}, {name: rest, hosts: [host.test], action: pass}]"},
		{name: "it is for another user", file: "rules: [{name: r, hosts: [host.test], users: [bob], action: pass, on_distrust: tunnel}, {name: rest, hosts: [host.test], action: pass}]"},
		{name: "it is for this user", file: "rules: [{name: r, hosts: [host.test], users: [alice], action: pass, on_distrust: tunnel}]", after: 3, rule: "r"},

		{name: "a rule denies uploads, before it", file: "rules: [{name: no-put, hosts: ['*'], methods: [PUT], action: deny}, " + tunnels + "]", rule: "pinned", why: `rule "no-put" denies`},
		{name: "a rule denies a path, behind one that looks", file: "rules: [{name: files, hosts: [host.test], paths: [/f/**], action: immutable, on_distrust: tunnel}, {name: no-x, hosts: [host.test], paths: [/x], action: deny}]", rule: "files", why: `rule "no-x" denies`},
		{name: "the setting says tunnel and a rule denies a path", file: "on_distrust: tunnel\nrules: [{name: no-x, hosts: [host.test], paths: [/x], action: deny}, {name: r, hosts: [host.test], action: pass}]", why: `rule "no-x" denies`},
		{name: "a rule would deny, and is tried out", file: "rules: [{name: no-put, hosts: ['*'], methods: [PUT], action: deny, mode: report}, " + tunnels + "]", rule: "pinned", why: `rule "no-put" denies`},
		{name: "a rule that denies is switched off", file: "rules: [{name: no-put, hosts: ['*'], methods: [PUT], action: deny, mode: open}, " + tunnels + "]", after: 2, rule: "pinned"},
		{name: "a rule denies another client's", file: "rules: [{name: no-put, hosts: ['*'], methods: [PUT], clients: [10.9.0.0/16], action: deny}, " + tunnels + "]", after: 2, rule: "pinned"},
		{name: "a rule that nothing comes to denies", file: "rules: [" + tunnels + ", {name: no-put, hosts: ['*.test'], methods: [PUT], action: deny}]", after: 2, rule: "pinned"},
		{name: "a rule wants what comes verified", file: "rules: [{name: files, hosts: [host.test], paths: [/f/**], action: immutable, verify: required, digest: {sha256: '^/f/([0-9a-f]{64})$'}}, " + tunnels + "]", rule: "pinned", why: "verified"},
		{name: "a rule is offline", file: "rules: [{name: files, hosts: [host.test], paths: [/f/**], action: immutable, offline: true}, " + tunnels + "]", rule: "pinned", why: "offline"},
		{name: "packages are curated", file: "curation: [{name: bad, packages: [left-pad], action: deny}]\nrules: [{name: index, hosts: [host.test], paths: [/i/**], action: revalidate, registry: npm}, " + tunnels + "]", rule: "pinned", why: "curated"},
		{name: "packages could be curated", file: "rules: [{name: index, hosts: [host.test], paths: [/i/**], action: revalidate, registry: npm}, " + tunnels + "]", after: 2, rule: "pinned"},
		{name: "the default denies, switched off", file: "default: deny\ndefault_mode: open\nrules: [" + tunnels + "]", after: 2, rule: "pinned"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := c.file + "\n"
			if !strings.Contains(file, "presets:") {
				file = "presets: none\n" + file
			}
			p := mustParse(t, file)
			d := p.OnDistrust(Client{Addr: netip.MustParseAddr("::ffff:10.0.0.7"), User: "alice"}, "HOST.test", 443)
			got, rule := 0, ""
			if d.Tunnel {
				got = d.After
			}
			if d.Rule != nil {
				rule = d.Rule.Name
			}
			if got != c.after || rule != c.rule || (c.why == "") != (d.Why == "") || !strings.Contains(d.Why, c.why) {
				t.Errorf("OnDistrust = %+v (rule %q), want after %d, rule %q, why %q", d, rule, c.after, c.rule, c.why)
			}
			if d.Tunnel && d.TTL != defaultDistrustTTL && d.TTL != 6*time.Hour {
				t.Errorf("for %v", d.TTL)
			}
		})
	}
}

// TestDefaultDenyKeepsTunnelsAway has a policy whose file could not say tunnel, since
// the decoder refuses that, made to say so.
func TestDefaultDenyKeepsTunnelsAway(t *testing.T) {
	p := mustParse(t, "presets: none\ndefault: deny\nrules: [{name: r, hosts: [host.test], action: pass}]\n")
	p.settings.OnDistrust = TunnelDistrust
	if d := p.OnDistrust(Client{}, "host.test", 443); d.Tunnel || !strings.Contains(d.Why, "default is deny") {
		t.Errorf("OnDistrust = %+v", d)
	}
}

func TestExplainSaysWhatBecomesOfDistrust(t *testing.T) {
	p := mustParse(t, `presets: none
rules:
  - { name: pinned, hosts: [pinned.test], action: pass, on_distrust: tunnel, distrust_after: 2, distrust_ttl: 6h }
  - { name: no-put, hosts: [seen.test], methods: [PUT], action: deny }
  - { name: seen, hosts: [seen.test], action: immutable, on_distrust: tunnel }
  - { name: plain, hosts: [plain.test], action: pass }
`)
	for _, c := range []struct{ url, want string }{
		{"https://pinned.test/", `If the client refuses larder's certificate for the host 2 times, rule "pinned" has its connections there tunnelled for 6h.`},
		{"https://seen.test/", `If the client refuses larder's certificate, it is not tunnelled, although rule "seen" says so: rule "no-put" denies some of what may come.`},
		{"https://plain.test/", ""},
		{"http://pinned.test/", ""},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		words := p.Explain(Client{}, "GET", u).Words
		if _, got, _ := strings.Cut(words, " If the client refuses"); (c.want == "") != (got == "") || !strings.HasSuffix(words, c.want) {
			t.Errorf("%s: %s\nwant %s", c.url, words, c.want)
		}
	}
}

func TestDistrustKeysOfARule(t *testing.T) {
	r := mustParse(t, "presets: none\nrules: [{name: r, hosts: [host.test], action: pass, on_distrust: tunnel}]\n").Rules()[0]
	got := [3]any{r.OnDistrust.String(), r.DistrustAfter, r.DistrustTTL}
	if d := cmp.Diff([3]any{"tunnel", 3, time.Hour}, got); d != "" {
		t.Error(d)
	}
}
