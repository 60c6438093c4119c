package mitm

import (
	"bufio"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
)

// FuzzTarget: a target that is accepted goes upstream as the bytes it came in.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/", "/a%2Fb", "//x//y", "//{x}", "/a?b?", "/?", "/../.%2e/", "/\xff", "*", "/#", "https://a.test/x", "/%zz"} {
		f.Add(s)
	}
	opened := authority{"a.test", 443}
	f.Fuzz(func(t *testing.T, target string) {
		if strings.ContainsAny(target, " \t\r\n") {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: a.test\r\n\r\n")))
		if err != nil {
			return
		}
		r.TLS = new(tls.ConnectionState)
		u, err := targetOf(r, opened)
		if err != nil {
			return
		}
		if u.Scheme != "https" || u.Host != "a.test" {
			t.Fatalf("%q leads to %s://%s", target, u.Scheme, u.Host)
		}
		if !strings.HasPrefix(target, "/") {
			return // absolute form: what follows the authority is the same code
		}
		want := target
		got := exactURL(u).RequestURI()
		if strings.HasPrefix(got, "https://") { // see exactURL
			want = "https://a.test" + target
		}
		if got != want {
			t.Fatalf("%q goes out as %q", target, got)
		}
		if strings.Contains(loggable(u, ""), "?") && !strings.Contains(u.Path+u.RawPath, "?") {
			t.Fatalf("%q is logged with its query: %s", target, loggable(u, ""))
		}
	})
}
