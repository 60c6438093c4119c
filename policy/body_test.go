package policy

import (
	"strings"
	"testing"
)

func TestRulesForBodies(t *testing.T) {
	t.Parallel()
	p := mustParse(t, explained)
	const packs = "https://repos.test/a/b.git/git-upload-pack"
	for _, tt := range []struct {
		method, url string
		body        RequestBody
		rule        string
		action      Action
	}{
		{"POST", packs, BodyUnread, "packs", Immutable},
		{"POST", packs, BodyGitFetch, "packs", Immutable},
		{"POST", packs, BodyGitRefs, "refs", Revalidate},
		{"POST", packs, BodyAny, "", Deny},
		{"POST", packs, BodyUnusable, "", Deny},
		{"POST", "https://repos.test/a/b.git/git-receive-pack", BodyUnread, "refs", Revalidate},
		{"POST", "https://repos.test/a/b.git/git-receive-pack", BodyGitFetch, "", Deny},
		{"GET", packs, BodyUnread, "", Deny},
		{"QUERY", "https://repos.test/", BodyAny, "queries", Revalidate},
		{"QUERY", "https://repos.test/", BodyGitFetch, "queries", Revalidate},
		{"QUERY", "https://repos.test/", BodyUnusable, "", Deny},
		// Where bodies make no difference they make none.
		{"POST", "https://month.test/", BodyGitFetch, "month", Pass},
		{"POST", "https://month.test/", BodyUnusable, "month", Pass},
	} {
		u := mustURL(t, tt.url)
		d := p.ClassifyBody(Client{}, tt.method, u, tt.body)
		if ruleName(d) != tt.rule || d.Action != tt.action {
			t.Errorf("%s %s with %v is %q %v, want %q %v", tt.method, tt.url, tt.body, ruleName(d), d.Action, tt.rule, tt.action)
		}
		if e := p.ExplainBody(Client{}, tt.method, u, tt.body); e.Request != d {
			t.Errorf("%s %s with %v: ExplainBody says %+v, ClassifyBody %+v", tt.method, tt.url, tt.body, e.Request, d)
		}
	}
}

func TestExplainSaysThatTheBodyDecides(t *testing.T) {
	t.Parallel()
	p := mustParse(t, explained)
	u := mustURL(t, "https://repos.test/a/b.git/git-upload-pack")
	unread, refs := p.Explain(Client{}, "POST", u).String(), p.ExplainBody(Client{}, "POST", u, BodyGitRefs).String()
	for text, want := range map[string]string{
		unread: `rule "packs" at larder.yaml:98:5 decides, if the body is of the kind git-fetch: immutable`,
		refs:   `not rule "packs" at larder.yaml:98:5: it is for requests with a body of the kind git-fetch`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("explanation lacks %q:\n%s", want, text)
		}
	}
	if !strings.Contains(refs, "with a body of the kind git-refs\n") || !strings.Contains(refs, "only whole answers are stored") {
		t.Errorf("explanation of refs:\n%s", refs)
	}
}

func TestNamesOfBodies(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"any", "git-fetch", "git-refs"} {
		if b, ok := ParseRequestBody(name); !ok || b.String() != name {
			t.Errorf("ParseRequestBody(%q) = %v, %v", name, b, ok)
		}
	}
	for _, name := range []string{"", "unread", "unusable", "git"} {
		if b, ok := ParseRequestBody(name); ok {
			t.Errorf("ParseRequestBody(%q) = %v", name, b)
		}
	}
}
