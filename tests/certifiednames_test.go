package tests

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestNamesThatCertificatesCarry has curl ask through larder for names at the edge
// of what a certificate can carry: it gets one that it takes, or is told why not.
func TestNamesThatCertificatesCarry(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl")
	label := strings.Repeat("a", 63)
	long := func(n int) string { // a name of n characters below long.test
		name := strings.Repeat(label+".", 3)
		return name + strings.Repeat("b", n-len(name)-len(".long.test")) + ".long.test"
	}
	origins := startOrigins(t)
	served := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "served "+r.Host) })
	for _, host := range []string{
		"192.0.2.7", "[2001:db8::7]", "xn--bcher-kva.test", "xn--bcher-kva.test.", "xn--80ak6aa92e.test", long(253), label + ".test", "under_score.test", "r3---sn-x.test",
	} {
		origins.Handle(host, served)
	}
	s := newInstance(t, origins, `rules:
  - { name: names, hosts: ["*.test", "192.0.2.0/24", "2001:db8::/32"], action: pass }
`).serve(t)
	for _, c := range []struct {
		name, host string
		want       string // the host as the origin sees it; "" for a refusal
		says       string // in the refusal
	}{
		{name: "an IPv4 address", host: "192.0.2.7", want: "192.0.2.7"},
		{name: "an IPv6 address", host: "[2001:db8::7]", want: "[2001:db8::7]"},
		{name: "an IPv6 address written otherwise", host: "[2001:0DB8:0::7]", want: "[2001:db8::7]"},
		{name: "an internationalised name", host: "bücher.test", want: "xn--bcher-kva.test"},
		{name: "an internationalised name in A-labels", host: "xn--80ak6aa92e.test", want: "xn--80ak6aa92e.test"},
		{name: "a name of 253 characters", host: long(253), want: long(253)},
		{name: "a label of 63 characters", host: label + ".test", want: label + ".test"},
		{name: "an underscore", host: "under_score.test", want: "under_score.test"},
		{name: "hyphens in third and fourth place", host: "r3---sn-x.test", want: "r3---sn-x.test"},
		{name: "a trailing dot", host: "xn--bcher-kva.test.", want: "xn--bcher-kva.test."},

		{name: "a name of 254 characters", host: long(254), says: "1 to 253 characters"},
		{name: "a label of 64 characters", host: label + "a.test", says: "not a host name"},
		{name: "a label that ends with a hyphen", host: "a-.test", says: "begins or ends with a hyphen"},
		{name: "an A-label that means nothing", host: "xn--zzzzzz.test", says: "no valid internationalised name"},
		{name: "a number in last place", host: "a.test.127", says: "an IPv4 address has four decimal parts"},
		{name: "an empty label", host: "a..test", says: "not a host name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := command{dir: privateDir(t), argv: []string{
				"curl", "--silent", "--show-error", "--globoff", "--include", "--proxy", "http://" + s.proxy,
				"--cacert", s.state + "/trust/ca.pem", "https://" + c.host + "/",
			}}.run(t)
			if c.want != "" && (res.code != 0 || !strings.HasSuffix(res.stdout, "\nserved "+c.want)) {
				t.Errorf("want the answer to %s: %v", c.want, res)
			}
			if c.want == "" && (!strings.HasPrefix(res.stdout, "HTTP/1.1 400 ") || !strings.Contains(res.stdout, c.says)) {
				t.Errorf("want CONNECT refused with 400 and %q: %v", c.says, res)
			}
		})
	}
}
