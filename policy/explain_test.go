package policy

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const explained = `presets: none
default: deny
rules:
  - name: no-telemetry
    hosts: [".ads.test"]
    action: deny
  - name: odd-port
    hosts: ["*.corp.test"]
    ports: [8443]
    action: pass
  - name: uploads
    hosts: ["*.corp.test"]
    methods: [PUT, POST]
    action: pass
    request: { set: { X-Via: larder } }
  - name: files
    hosts: ["files.corp.test"]
    paths: ["/files/**"]
    action: immutable
    drop_query: [sig]
  - name: index
    hosts: ["files.corp.test"]
    paths: ["/index/**"]
    action: revalidate
    ttl: 60s
    stale_if_error: 24h
    stale_while_revalidate: 90s
    negative_ttl: 10s
    vary: [Accept]
    max_object: 1MiB
    max_store: 10MiB
    pin: true
  - name: git
    hosts: [git.test]
    action: tunnel
  - name: rest
    hosts: ["open.test"]
    action: revalidate
  - name: month
    hosts: ["month.test"]
    action: immutable
    ttl: 30d
  - name: no-staging
    hosts: [staged.test]
    action: deny
    mode: report
  - name: no-puts
    hosts: [staged.test]
    methods: [PUT]
    action: deny
    mode: open
  - name: team
    hosts: [team.test, staged.test]
    clients: [10.1.0.0/16, "fd00:1::/32"]
    action: pass
  - name: people
    hosts: [team.test]
    users: [alice, bob]
    action: pass
  - name: anybody
    hosts: [team.test]
    users: ["*"]
    paths: ["/public/**"]
    action: pass
  - name: web
    hosts: ["web.test"]
    action: http
    stale_if_error: 1h
  - name: images
    hosts: ["images.test"]
    action: immutable
    authorized: recheck
    recheck_scope: "^/v2/(.+)/blobs/"
    stale_if_error: 1h
  - name: repositories
    hosts: ["repositories.test"]
    action: revalidate
    authorized: recheck
    recheck_ttl: 30s
    recheck_scope: "^/([^/]+)/"
    recheck_at: "/$1/access"
  - name: layers
    hosts: ["layers.test"]
    action: immutable
    digest: { sha256: "^/([0-9a-f]{64})$" }
    key: digest
    redirects: follow
    authorized: signed
    signed_by: ["images.test"]
  - name: tags
    hosts: ["tags.test"]
    action: revalidate
    validate: head
  - name: shelf
    hosts: ["shelf.test"]
    action: revalidate
    authorized: public
  - name: packs
    hosts: ["repos.test"]
    methods: [POST]
    paths: ["/**/git-upload-pack"]
    request_body: git-fetch
    action: immutable
    ttl: 24h
  - name: refs
    hosts: ["repos.test"]
    methods: [POST]
    request_body: git-refs
    action: revalidate
  - name: queries
    hosts: ["repos.test"]
    methods: [QUERY]
    request_body: any
    action: revalidate
`

func TestExplain(t *testing.T) {
	p := mustParse(t, explained)
	var b strings.Builder
	for _, r := range []string{
		"GET https://files.corp.test/files/a.tar?sig=x",
		"POST https://files.corp.test/files/a.tar",
		"GET https://files.corp.test/index/x",
		"GET http://files.corp.test/index/x",
		"GET https://files.corp.test/other",
		"GET https://files.corp.test/files/../x",
		"GET https://www.ads.test/",
		"GET http://www.ads.test/",
		"GET https://git.test/x",
		"GET http://git.test/x",
		"POST https://open.test/",
		"GET https://open.test/",
		"GET https://month.test/",
		"GET https://web.test/",
		"GET https://images.test/v2/a/blobs/x",
		"GET https://repositories.test/a/x",
		"GET https://layers.test/a",
		"GET https://tags.test/a",
		"GET https://shelf.test/a",
		"GET https://user:secret@nobody.test/",
		"GET https://staged.test/",
		"PUT https://staged.test/ 10.1.2.3",
		"GET https://team.test/",
		"GET https://team.test/ ::ffff:10.1.2.3",
		"GET https://team.test/ fd00:1::7%eth0 alice",
		"GET https://team.test/x 10.2.0.1 alice",
		"GET https://team.test/x 10.2.0.1 carol",
		"GET https://team.test/public/x 10.2.0.1 carol",
		"POST https://repos.test/a/b.git/git-upload-pack",
		"GET https://repos.test/a/b.git/git-upload-pack",
	} {
		words := strings.Fields(r)
		method, url := words[0], words[1]
		var c Client
		if len(words) > 2 {
			c.Addr = netip.MustParseAddr(words[2])
		}
		if len(words) > 3 {
			c.User = words[3]
		}
		e := p.Explain(c, method, mustURL(t, url))
		b.WriteString(e.String() + "\n")
		if d := p.Classify(c, method, mustURL(t, url)); d != e.Request {
			t.Errorf("%s: Explain says %+v, Classify %+v", r, e.Request, d)
		}
	}
	const golden = "testdata/explain.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("explanations differ (-want +got):\n%s", diff)
	}
}

func TestExplainNamesThePresetAndItsLine(t *testing.T) {
	p, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	text := p.Explain(Client{}, "GET", mustURL(t, "https://registry."+"npmjs.org/left-pad")).String()
	for _, want := range []string{`not rule "tarballs" of preset npm at presets/npm.yaml:`, "no pattern in paths matches /left-pad", `rule "packuments" of preset npm at presets/npm.yaml:`, "decides: revalidate"} {
		if !strings.Contains(text, want) {
			t.Errorf("explanation lacks %q:\n%s", want, text)
		}
	}
}
