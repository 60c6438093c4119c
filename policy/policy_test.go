package policy

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func mustParse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := Parse("larder.yaml", []byte(text))
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return p
}

func mustURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestBuiltInPolicyCompiles(t *testing.T) {
	p, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Connect(Client{}, "files.example.org", 443).Action; got != Tunnel {
		t.Errorf("Connect to a host without a rule = %v, want tunnel", got)
	}
	if got := p.Connect(Client{}, "files."+"pythonhosted.org", 443).Action; got != Pass {
		t.Errorf("Connect to a preset's host = %v, want pass", got)
	}
}

func TestFirstMatchWins(t *testing.T) {
	p := mustParse(t, `
presets: none
rules:
  - name: archive
    hosts: ["{files,art}.corp.test"]
    paths: ["/releases/**"]
    action: immutable
  - name: rest
    hosts: [".corp.test"]
    action: revalidate
    ttl: 1d
`)
	for _, tt := range []struct {
		method, url, rule string
		action            Action
	}{
		{"GET", "https://files.corp.test/releases/a/b.tar", "archive", Immutable},
		{"HEAD", "https://files.corp.test/releases/", "archive", Immutable},
		{"POST", "https://files.corp.test/releases/a", "archive", Pass},
		{"GET", "https://files.corp.test/other", "rest", Revalidate},
		{"GET", "http://corp.test:8080/", "rest", Revalidate},
	} {
		d := p.Classify(Client{}, tt.method, mustURL(t, tt.url))
		if d.Rule == nil || d.Rule.Name != tt.rule || d.Action != tt.action {
			t.Errorf("Classify(%s %s) = %v %v, want %v %v", tt.method, tt.url, d.Action, d.Rule, tt.action, tt.rule)
		}
	}
	if d := p.Classify(Client{}, "GET", mustURL(t, "https://else.test/")); d.Rule != nil || d.Action != Tunnel {
		t.Errorf("Classify of a host without a rule = %+v", d)
	}
}

func TestConnectDecidesByHostAndPortAlone(t *testing.T) {
	p := mustParse(t, `
presets: none
default: tunnel
rules:
  - { name: no-telemetry, hosts: [".ads.test"], action: deny }
  - { name: no-writes, hosts: [git.corp.test], methods: [POST], action: deny }
  - { name: files, hosts: ["*.corp.test"], ports: [443], paths: ["/files/**"], action: immutable }
  - { name: odd-port, hosts: ["*.corp.test"], ports: [8443], action: tunnel }
  - { name: net, hosts: [10.0.0.0/8], action: revalidate }
`)
	for _, tt := range []struct {
		host   string
		port   int
		action Action
		rule   string
	}{
		{"ads.test", 443, Deny, "no-telemetry"},
		{"X.ADS.test.", 443, Deny, "no-telemetry"},
		// A deny rule that looks at methods can only refuse on the inside.
		{"git.corp.test", 8443, Pass, "no-writes"},
		{"files.corp.test", 443, Pass, "files"},
		{"files.corp.test", 8443, Tunnel, "odd-port"},
		{"files.corp.test", 22, Tunnel, ""},
		{"10.1.2.3", 443, Pass, "net"},
		{"::ffff:10.1.2.3", 443, Pass, "net"},
		{"else.test", 443, Tunnel, ""},
	} {
		d := p.Connect(Client{}, tt.host, tt.port)
		if name := ruleName(d); d.Action != tt.action || name != tt.rule {
			t.Errorf("Connect(%s, %d) = %v by %q, want %v by %q", tt.host, tt.port, d.Action, name, tt.action, tt.rule)
		}
	}
}

func ruleName(d Decision) string {
	if d.Rule == nil {
		return ""
	}
	return d.Rule.Name
}

func TestTunnelOnTheInsideMeansPass(t *testing.T) {
	p := mustParse(t, `
presets: none
rules:
  - { name: files, hosts: [a.corp.test], paths: ["/files/**"], action: immutable }
`)
	for url, want := range map[string]Action{
		"https://a.corp.test/files/x": Immutable,
		"https://a.corp.test/other":   Pass,   // the connection is open already
		"http://a.corp.test/other":    Tunnel, // forwarded as it is
		"https://b.corp.test/":        Tunnel,
	} {
		if got := p.Classify(Client{}, "GET", mustURL(t, url)).Action; got != want {
			t.Errorf("Classify(%s) = %v, want %v", url, got, want)
		}
	}
}

func TestDefaultDenyRefusesWhatNoRuleAllows(t *testing.T) {
	p := mustParse(t, `
presets: none
default: deny
rules:
  - { name: files, hosts: [a.corp.test], paths: ["/public/**"], action: pass }
`)
	for url, want := range map[string]Action{
		"https://a.corp.test/public/x":             Pass,
		"https://a.corp.test/secret":               Deny,
		"https://a.corp.test/public/../secret":     Deny,
		"https://a.corp.test/public/%2e%2e/secret": Deny,
		"https://a.corp.test/public/..%2fsecret":   Deny,
		"https://b.corp.test/":                     Deny,
	} {
		if got := p.Classify(Client{}, "GET", mustURL(t, url)).Action; got != want {
			t.Errorf("Classify(%s) = %v, want %v", url, got, want)
		}
	}
	if got := p.Connect(Client{}, "b.corp.test", 443); got.Action != Deny || got.Rule != nil {
		t.Errorf("Connect = %+v", got)
	}
}

func TestDenyLooksThroughEncodings(t *testing.T) {
	p := mustParse(t, `
presets: none
rules:
  - { name: no, hosts: [a.corp.test], paths: ["/evil/**", "/@evil/**"], action: deny }
`)
	for url, want := range map[string]Action{
		"https://a.corp.test/evil/x":      Deny,
		"https://a.corp.test/%65vil/x":    Deny,
		"https://a.corp.test//evil/x":     Deny,
		"https://a.corp.test/x/../evil/x": Deny,
		"https://a.corp.test/evil%2fx":    Deny,
		"https://a.corp.test/%40evil/x":   Deny,
		"https://a.corp.test/%2540evil/x": Deny,
		"https://a.corp.test/@evil%5Cx":   Deny,
		"https://a.corp.test/good/x":      Pass,
	} {
		if got := p.Classify(Client{}, "GET", mustURL(t, url)).Action; got != want {
			t.Errorf("Classify(%s) = %v, want %v", url, got, want)
		}
	}
}

func TestPathIsMatchedAsSent(t *testing.T) {
	p := mustParse(t, `
presets: none
rules:
  - { name: encoded, hosts: [a.corp.test], paths: ["/@*%2f*", "/a|b"], action: immutable }
  - { name: plain, hosts: [a.corp.test], paths: ["/@*/*"], action: revalidate }
`)
	for url, want := range map[string]Action{
		"http://a.corp.test/@s%2fn":     Immutable,
		"http://a.corp.test/@s/n":       Revalidate,
		"http://a.corp.test/@s/n?x=%2f": Revalidate,
		"http://a.corp.test/a|b":        Immutable,
		"http://a.corp.test":            Tunnel,
	} {
		if got := p.Classify(Client{}, "GET", mustURL(t, url)).Action; got != want {
			t.Errorf("Classify(%s) = %v, want %v", url, got, want)
		}
	}
}

func TestOwnRulesComeBeforePresets(t *testing.T) {
	p := mustParse(t, `
presets: [npm]
rules:
  - { name: no-npm, hosts: ["*.npmjs.org"], action: tunnel }
`)
	if d := p.Connect(Client{}, "registry."+"npmjs.org", 443); d.Action != Tunnel || ruleName(d) != "no-npm" {
		t.Errorf("Connect = %v by %q", d.Action, ruleName(d))
	}
	if d := p.Connect(Client{}, "registry."+"yarnpkg.com", 443); d.Action != Pass || d.Rule.Preset != "npm" {
		t.Errorf("Connect = %v by %q", d.Action, ruleName(d))
	}
}

func TestInterceptable(t *testing.T) {
	for _, tt := range []struct {
		rules string
		want  []string
	}{
		{`[]`, []string{}},
		{`[{name: a, hosts: [a.corp.test], action: tunnel}, {name: b, hosts: [b.test], action: deny}]`, []string{}},
		{`[{name: a, hosts: ["*.corp.test", "x*.eu.corp.test", "{a,*.b}.test"], action: pass}]`, []string{"a.test", "b.test", "corp.test"}},
		{`[{name: a, hosts: [a.test, 10.0.0.0/8, "::1"], action: immutable}]`, []string{"a.test", "10.0.0.0/8", "::1/128"}},
		{`[{name: a, hosts: ["*"], action: pass}]`, nil},
		{`[{name: a, hosts: ["*"], action: tunnel}]`, []string{}},
		{`[{name: a, hosts: [a.test], methods: [POST], action: deny}]`, []string{"a.test"}},
	} {
		p := mustParse(t, "presets: none\nrules: "+tt.rules+"\n")
		got := p.Interceptable()
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("Interceptable of %s differs (-want +got):\n%s", tt.rules, diff)
		}
	}
}

func TestValidFileDecodesCompletely(t *testing.T) {
	p, err := Load("testdata/valid.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := p.Settings()
	if s.Listen != "0.0.0.0:3128" || s.Admin.Listen != "" || s.State != "testdata/state" || s.Store.MaxSize != 3<<39 || s.Ledger.MaxSize != 5<<30 || s.Store.OnFailure != RefuseOnFailure || !s.Offline || s.Default != Deny {
		t.Errorf("Settings = %+v", s)
	}
	if want := (Kit{Enabled: true, ProxyURL: "https://larder.corp.test:3443", Name: "larder.corp.test"}); s.Kit != want {
		t.Errorf("Kit = %+v, want %+v", s.Kit, want)
	}
	auth := &Auth{PasswordsFile: "testdata/passwords", TokensFile: "/etc/larder/tokens", CertificateUser: "uri"}
	if diff := cmp.Diff(auth, s.Auth); diff != "" || s.DefaultMode != Report {
		t.Errorf("mode %v, auth %s", s.DefaultMode, diff)
	}
	if diff := cmp.Diff([]string{"npm", "debian"}, s.Presets); diff != "" {
		t.Error(diff)
	}
	for target, want := range map[string]string{
		"registry.corp.test": "127.0.0.1:8443", "other.corp.test": "[::1]:8444", "else.test": "else.test:443",
	} {
		if got := s.Upstream.DialAddress(target, 443); got != want {
			t.Errorf("DialAddress(%s, 443) = %s, want %s", target, got, want)
		}
	}
	if got := s.Upstream.DialAddress("registry.corp.test", 80); got != "registry.corp.test:80" {
		t.Errorf("DialAddress at another port = %s", got)
	}
	want := &Rule{
		Name: "artifacts", Hosts: []string{"*.corp.test", "art{ifacts,}.example.test", "bücher.test", "10.0.0.0/8"},
		Ports: []int{443, 8443}, Methods: []string{"GET", "HEAD"}, Paths: []string{"/releases/**", "^/v[0-9]+/"},
		Query:   []string{"service=git%2Dupload-pack", "v"},
		Clients: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::1/128")}, Users: []string{"ci", "*"},
		Action: Immutable, TTL: 15*24*time.Hour + 12*time.Hour, StaleIfError: 24 * time.Hour, StaleWhileRevalidate: 30 * time.Second,
		NegativeTTL: 10 * time.Second, Vary: []string{"Accept"}, DropQuery: []string{"X-Amz-*", "token"}, MaxObject: 4 << 30, MaxStore: 1 << 40, Pin: true, Offline: true, FillRanges: true, FinishFill: FinishAlways,
		Authorized: Recheck, RecheckTTL: 5 * time.Minute, RecheckScope: regexp.MustCompile("^/releases/([^/]+)/"), RecheckAt: "/releases/$1/access", Redirects: FollowRedirects,
		Digest: []PathDigest{
			{Algorithm: "blake2b-256", Pattern: "^/releases/([0-9a-f]{2})/([0-9a-f]{62})"},
			{Algorithm: "sha256-nix32", Pattern: "^/v1/(.*)"},
		},
		Verify:     VerifyRequired,
		Index:      "pypi",
		VouchesFor: []string{"*.files.test", "10.0.0.0/8"},
		Registry:   PyPI,
		OnDistrust: RefuseDistrust,
		Request:    HeaderChanges{Set: []HeaderField{{"X-A", "b"}, {"X-B", "c"}}, Remove: []string{"X-C"}},
		Response:   HeaderChanges{Add: []HeaderField{{"X-D", ""}}},
		Position:   Position{File: "testdata/valid.yaml", Line: 32, Column: 5},
	}
	if diff := cmp.Diff(want, p.Rules()[0], cmpopts.IgnoreUnexported(Rule{}), cmpopts.EquateComparable(netip.Prefix{}),
		cmp.Comparer(func(a, b *regexp.Regexp) bool { return a.String() == b.String() })); diff != "" {
		t.Errorf("first rule differs (-want +got):\n%s", diff)
	}
	images, tags := p.Rules()[1], p.Rules()[2]
	if images.Key != KeyDigest || images.Authorized != Signed || !images.Signs("a.registry.test") || images.Signs("registry.other.test") || images.Ledger != LedgerOff {
		t.Errorf("images: %+v", images)
	}
	if tags.Validate != ValidateHead {
		t.Errorf("tags: %+v", tags)
	}
	if !slices.ContainsFunc(p.Rules(), func(r *Rule) bool { return r.Name == "mirrors" && r.Share == "mirrors" }) {
		t.Error("no rule shares")
	}
}

func TestLoadSaysWhichFileCannotBeRead(t *testing.T) {
	if _, err := Load("testdata/absent.yaml"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "testdata/absent.yaml") {
		t.Errorf("Load = %v", err)
	}
	if _, err := Load("testdata"); err == nil {
		t.Error("Load of a folder succeeded")
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	presets, _ := filepath.Glob("presets/*.yaml")
	for _, file := range append(files, presets...) {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(Annotated()))
	// Read once: parsing the presets anew would take most of the time.
	known, err := Presets()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parse("f.yaml", data, known, false)
		if err != nil {
			problems, ok := errors.AsType[*Errors](err)
			if !ok || len(problems.Problems) == 0 || err.Error() == "" {
				t.Fatalf("Parse = %T %v", err, err)
			}
			return
		}
		for _, r := range p.Rules() {
			if r.Name == "" || len(r.Hosts) == 0 || r.Action == 0 || len(r.hosts) != len(r.Hosts) || len(r.paths) != len(r.Paths) {
				t.Errorf("incomplete rule %+v", r)
			}
		}
		p.Interceptable()
		u := &url.URL{Scheme: "https", Host: "a.corp.test", Path: "/x"}
		d, e := p.Classify(Client{}, "GET", u), p.Explain(Client{}, "GET", u)
		if d != e.Request || e.String() == "" {
			t.Errorf("Classify = %+v, Explain %+v", d, e)
		}
	})
}

// An index by suffix must find what a scan over all rules finds, in their order.
func TestIndexAgreesWithAScan(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	labels := []string{"a", "b", "ab", "c"}
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	for range 300 {
		var rules []*Rule
		for range 1 + random.IntN(12) {
			text := pick([]string{"", "*.", ".", "a*.", "b.*."})
			for range 1 + random.IntN(3) {
				text += pick(labels) + "."
			}
			if random.IntN(10) == 0 {
				text = pick([]string{"*", "10.0.0.0/8", "10.1.0.0/16"})
			}
			rules = append(rules, &Rule{Name: text, hosts: []*HostPattern{mustPattern(t, text)}})
		}
		x := newIndex(rules)
		for range 50 {
			name := pick([]string{"10.1.2.3", "10.9.9.9", "::1", "a"})
			for range random.IntN(4) {
				name = pick(labels) + "." + name
			}
			var want, got []*Rule
			for _, r := range rules {
				if r.hosts[0].Match(name) {
					want = append(want, r)
				}
			}
			x.first(normalizeHost(name), func(r *Rule) bool { got = append(got, r); return false })
			if !slices.Equal(want, got) {
				t.Fatalf("%s: index offers %v, a scan %v", name, got, want)
			}
		}
	}
}

func TestManyRulesLoadQuickly(t *testing.T) {
	start := time.Now()
	p := busy(t)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("%d rules took %v", len(p.Rules()), took)
	}
}

func TestConcurrentUse(t *testing.T) {
	p := mustParse(t, explained)
	u := mustURL(t, "https://files.corp.test/index/x")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				p.Connect(Client{}, "a.corp.test", 443)
				if d := p.Classify(Client{}, "GET", u); d.Action != Revalidate {
					t.Errorf("Classify = %v", d.Action)
				}
				p.Explain(Client{}, "GET", u)
			}
		})
	}
	wg.Wait()
}

func TestLedgerIsKeptOfWhatNeverChanges(t *testing.T) {
	p := mustParse(t, `presets: none
rules:
  - { name: a, hosts: [a.test], action: immutable }
  - { name: b, hosts: [b.test], action: immutable, ttl: 30d }
  - { name: c, hosts: [c.test], action: immutable, ledger: off }
  - { name: d, hosts: [d.test], action: revalidate }
`)
	var got []Ledger
	for _, r := range p.Rules() {
		got = append(got, r.Ledger)
	}
	if want := []Ledger{LedgerRefuse, LedgerWarn, LedgerOff, LedgerOff}; !slices.Equal(got, want) {
		t.Errorf("ledgers are %v, want %v", got, want)
	}
}

func TestIndexVouchesForNamedHosts(t *testing.T) {
	p := mustParse(t, `presets: none
rules:
  - { name: a, hosts: [a.test], action: revalidate, index: pypi, vouches_for: ["*.files.test", "{x,y}.more.test", "a*.test"] }
`)
	r := p.Rules()[0]
	if got := r.VouchedHosts(); !slices.Equal(got, []string{"x.more.test", "y.more.test"}) {
		t.Errorf("VouchedHosts = %q", got)
	}
	if !r.Vouches("x.files.test") || r.Vouches("files.test") || r.Vouches("b.test") {
		t.Error("Vouches goes by something else than vouches_for")
	}
}
