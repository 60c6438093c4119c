package policy

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/publicsuffix"

	"larder/policy/shapes"
)

// shapesOf reads the recorded shapes of a preset.
func shapesOf(t *testing.T, preset string) []shapes.Shape {
	t.Helper()
	all, err := shapes.Read(filepath.Join("testdata", "shapes", preset+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPresetsDecideAsRecorded(t *testing.T) {
	for _, preset := range mustPresets(t) {
		t.Run(preset.Name, func(t *testing.T) {
			p := mustParse(t, "presets: ["+preset.Name+"]\n")
			reached := make(map[string]bool)
			for _, s := range shapesOf(t, preset.Name) {
				reached[checkShape(t, p, preset.Name, s)] = true
			}
			for _, r := range preset.Rules() {
				if !reached[r.Name] {
					t.Errorf("no shape reaches rule %s", r.Name)
				}
			}
		})
	}
}

// TestPresetsLeaveEachOtherAlone decides about every shape under all presets, in
// either order: hosts are shared, and none may shadow another's paths.
func TestPresetsLeaveEachOtherAlone(t *testing.T) {
	presets := mustPresets(t)
	names := make([]string, len(presets))
	for i, p := range presets {
		names[i] = p.Name
	}
	forward := mustParse(t, "presets: ["+strings.Join(names, ", ")+"]\n")
	slices.Reverse(names)
	backward := mustParse(t, "presets: ["+strings.Join(names, ", ")+"]\n")
	for _, preset := range presets {
		for _, s := range shapesOf(t, preset.Name) {
			if s.Rule != "" {
				checkShape(t, forward, preset.Name, s)
				checkShape(t, backward, preset.Name, s)
			}
		}
	}
}

// checkShape compares the decision with the recorded one and returns the name of
// the rule that made it.
func checkShape(t *testing.T, p *Policy, preset string, s shapes.Shape) string {
	t.Helper()
	d := p.ClassifyBody(Client{}, s.Method, mustURL(t, s.URL), bodyOf(t, s))
	rule, ttl, want := "", time.Duration(0), ""
	if d.Rule != nil {
		rule, ttl = d.Rule.Name, d.Rule.TTL
	}
	if s.Rule != "" {
		want = preset + "/" + s.Rule
	}
	if rule != want || d.Action.String() != s.Action || ttl != s.TTL {
		t.Errorf("%v\n got %s %v ttl %v\nwant %s %s ttl %v", s, rule, d.Action, ttl, want, s.Action, s.TTL)
	}
	if e := p.Explain(Client{}, s.Method, mustURL(t, s.URL)); e.Words == "" || s.Body == "" && e.Request.Action != d.Action {
		t.Errorf("%v: it is %v, and explained as %v: %s", s, d.Action, e.Request.Action, e.Words)
	}
	return rule
}

// TestPresetsAddNothingToOtherHosts bounds what a request costs to decide about: the
// rules that name its host, however many presets there are.
func TestPresetsAddNothingToOtherHosts(t *testing.T) {
	p, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	const most = 24
	for _, preset := range mustPresets(t) {
		for _, s := range shapesOf(t, preset.Name) {
			rules, globs := 0, len(p.index.candidates(mustURL(t, s.URL).Hostname()))
			p.index.first(normalizeHost(mustURL(t, s.URL).Hostname()), func(*Rule) bool { rules++; return false })
			if rules > most || globs > 4*most {
				t.Errorf("%v: %d rules of its host, %d patterns of its domain are looked at", s, rules, globs)
			}
		}
	}
	if n := len(p.index.candidates("a.unknown.example")); n > 0 {
		t.Errorf("%d patterns are looked at for a host of no preset", n)
	}
}

// bodyOf is the kind of body that a shape names.
func bodyOf(t *testing.T, s shapes.Shape) RequestBody {
	t.Helper()
	for b := range RequestBody(len(bodyNames)) {
		if s.Body == b.String() || s.Body == "" {
			return b
		}
	}
	t.Errorf("%v: there is no body %q", s, s.Body)
	return BodyUnread
}

func mustPresets(t *testing.T) []Preset {
	t.Helper()
	presets, err := Presets()
	if err != nil {
		t.Fatal(err)
	}
	return presets
}

func TestPresetsKeepTheirPromises(t *testing.T) {
	address := regexp.MustCompile(`^https://[^/]+/`)
	for _, p := range mustPresets(t) {
		if len(p.Docs) == 0 || strings.Contains(p.Summary, "\n") || !strings.Contains(p.Text, "name: "+p.Name) {
			t.Errorf("preset %s is incomplete: %+v", p.Name, p)
		}
		for _, doc := range p.Docs {
			if !address.MatchString(doc) {
				t.Errorf("preset %s: doc %q is no https URL", p.Name, doc)
			}
		}
		if len(p.Limits) == 0 {
			t.Errorf("preset %s knows of no limit", p.Name)
		}
		for _, limit := range p.Limits {
			if strings.ContainsAny(limit, "\n|") || !strings.HasSuffix(limit, ".") {
				t.Errorf("preset %s: limit %q is no sentence", p.Name, limit)
			}
		}
		for _, r := range p.Rules() {
			if r.Preset != p.Name || !strings.HasPrefix(r.Name, p.Name+"/") || r.Position.Line == 0 {
				t.Errorf("rule %+v does not know where it comes from", r)
			}
			if r.NegativeTTL > 10*time.Second {
				t.Errorf("rule %s remembers a 404 for %v", r.Name, r.NegativeTTL)
			}
			if r.Action == Revalidate && r.TTL > 0 && r.StaleIfError < 24*time.Hour {
				t.Errorf("rule %s is an index without stale_if_error of 24h", r.Name)
			}
		}
		boundedHosts(t, p)
		wholeHosts(t, p)
	}
}

// boundedHosts wants what the name constraints of the authority permit on account
// of a preset to be somebody's domain.
func boundedHosts(t *testing.T, p Preset) {
	t.Helper()
	suffixes := mustParse(t, "presets: ["+p.Name+"]\n").Interceptable()
	if suffixes == nil {
		t.Errorf("preset %s cannot be bounded by name constraints", p.Name)
	}
	for _, s := range suffixes {
		if suffix, icann := publicsuffix.PublicSuffix(s); icann && suffix == s {
			t.Errorf("preset %s would let the authority sign for everything below %s", p.Name, s)
		}
	}
}

// sharedHosts are hosts of which a preset names some paths only: what is beside them
// belongs to other presets, or is nobody's business.
var sharedHosts = []string{
	"github.com", "gitlab.com", "dl.google.com", "*.github.io", "googlechromelabs.github.io",
	"{,chromedriver.}storage.googleapis.com", "storage.googleapis.com",
}

// wholeHosts wants a rule for what no rule with paths takes, for every host that the
// preset does not share.
func wholeHosts(t *testing.T, p Preset) {
	t.Helper()
	var whole []*Rule
	for _, r := range p.Rules() {
		if !r.sees() {
			whole = append(whole, r)
		}
	}
	for _, r := range p.Rules() {
		for i, pattern := range r.Hosts {
			one := *r
			one.Ports, one.hosts = nil, []*HostPattern{r.hosts[i]}
			covered := slices.ContainsFunc(whole, func(w *Rule) bool { return w.covers(&one) })
			if covered == slices.Contains(sharedHosts, pattern) {
				t.Errorf("rule %s: host %s is left to other presets: %v", r.Name, pattern, !covered)
			}
		}
	}
}
