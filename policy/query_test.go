package policy

import "testing"

func TestRulesForQueries(t *testing.T) {
	t.Parallel()
	p := mustParse(t, `presets: none
default: deny
rules:
  - { name: fetch, hosts: [a.test], query: ["service=git-upload-pack"], action: revalidate }
  - { name: versioned, hosts: [a.test], paths: ["/v"], query: [v, "k=a+b"], action: immutable }
  - { name: rest, hosts: [a.test], paths: ["/rest"], action: pass }
`)
	for target, want := range map[string]string{
		"/r/info/refs?service=git-upload-pack":                          "fetch",
		"/r/info/refs?x=1&service=git-upload-pack&y":                    "fetch",
		"/r/info/refs?service=git%2dupload-pack":                        "fetch",
		"/r/info/refs?%73ervice=git-upload-pack":                        "fetch",
		"/r/info/refs?service=git-receive-pack":                         "",
		"/r/info/refs?service=git-upload-pack&service=git-receive-pack": "",
		"/r/info/refs?service=git-receive-pack&service=git-upload-pack": "",
		"/r/info/refs?service=git-upload-pack&service=git-upload-pack":  "",
		"/r/info/refs?service=git-upload-pack&%73ervice=x":              "",
		"/r/info/refs?service":                                          "",
		"/r/info/refs?Service=git-upload-pack":                          "",
		"/r/info/refs":                                                  "",
		"/v?v=&k=a+b":                                                   "versioned",
		"/v?k=a%20b&v=7":                                                "versioned",
		"/v?k=a%20b":                                                    "",
		"/v?v=%zz&k=a+b":                                                "versioned",
		"/rest?":                                                        "rest",
	} {
		u := mustURL(t, "https://a.test"+target)
		if d := p.Classify(Client{}, "GET", u); ruleName(d) != want {
			t.Errorf("%s is for rule %q, want %q", target, ruleName(d), want)
		} else if e := p.Explain(Client{}, "GET", u); e.Request != d {
			t.Errorf("%s: Explain says %+v, Classify %+v", target, e.Request, d)
		}
	}
}
