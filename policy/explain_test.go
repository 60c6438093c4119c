package policy

import (
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
  - name: web
    hosts: ["web.test"]
    action: http
    stale_if_error: 1h
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
		"GET https://user:secret@nobody.test/",
	} {
		method, url, _ := strings.Cut(r, " ")
		e := p.Explain(method, mustURL(t, url))
		b.WriteString(e.String() + "\n")
		if d := p.Classify(method, mustURL(t, url)); d != e.Request {
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
	text := p.Explain("GET", mustURL(t, "https://registry."+"npmjs.org/left-pad")).String()
	for _, want := range []string{`not rule "tarballs" of preset npm at presets/npm.yaml:`, "no pattern in paths matches /left-pad", `rule "packuments" of preset npm at presets/npm.yaml:`, "decides: revalidate"} {
		if !strings.Contains(text, want) {
			t.Errorf("explanation lacks %q:\n%s", want, text)
		}
	}
}
