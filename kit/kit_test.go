package kit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// newRoot makes a root certificate in PEM.
func newRoot(t testing.TB, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// newKit makes a Kit of two roots, as during a rotation.
func newKit(t testing.TB, o Options) (k *Kit, roots []byte) {
	t.Helper()
	roots = append(newRoot(t, "new root"), newRoot(t, "old root")...)
	o.Roots = func() []byte { return roots }
	k, err := New(o, Settings{Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	return k, roots
}

// ask makes a request for a path under http://larder.example:3128.
func ask(k *Kit, method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://larder.example:3128"+path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	k.ServeHTTP(w, r)
	return w
}

func TestEveryFileHasItsDigestAndNoOther(t *testing.T) {
	k, _ := newKit(t, Options{})
	sums := ask(k, "GET", "/SHA256SUMS").Body.String()
	for _, f := range files() {
		got := ask(k, "GET", f.path)
		if got.Code != 200 || got.Body.Len() == 0 {
			t.Errorf("%s: %d %s", f.path, got.Code, got.Body)
			continue
		}
		sum := sha256.Sum256(got.Body.Bytes())
		h := got.Header()
		tag := h.Get("ETag")
		if want := `"` + hex.EncodeToString(sum[:]) + `"`; tag != want {
			t.Errorf("%s: ETag %s, want %s", f.path, tag, want)
		}
		if want := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"; h.Get("Repr-Digest") != want {
			t.Errorf("%s: Repr-Digest %s, want %s", f.path, h.Get("Repr-Digest"), want)
		}
		if h.Get("Content-Type") != f.contentType || h.Get("Cache-Control") != cacheControl || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: header %v", f.path, h)
		}
		if line := fmt.Sprintf("%x  %s\n", sum, f.path[1:]); f.path != "/SHA256SUMS" && f.contentType != html && !strings.Contains(sums, line) {
			t.Errorf("%s is not in SHA256SUMS:\n%s", f.path, sums)
		}
		if head := ask(k, "HEAD", f.path); head.Code != 200 || head.Body.Len() != 0 ||
			head.Header().Get("Content-Length") != fmt.Sprint(got.Body.Len()) || head.Header().Get("ETag") != tag {
			t.Errorf("HEAD %s: %d %v", f.path, head.Code, head.Header())
		}
		if same := ask(k, "GET", f.path, "If-None-Match", `"x", `+tag); same.Code != 304 || same.Body.Len() != 0 {
			t.Errorf("%s with If-None-Match: %d", f.path, same.Code)
		}
		if changed := ask(k, "GET", f.path, "If-None-Match", `"x"`); changed.Code != 200 {
			t.Errorf("%s with another If-None-Match: %d", f.path, changed.Code)
		}
	}
}

func TestRootsAreThoseThatAreCurrent(t *testing.T) {
	k, roots := newKit(t, Options{})
	if got := ask(k, "GET", "/ca.pem").Body.String(); got != string(roots) {
		t.Errorf("ca.pem is %s", got)
	}
	der := ask(k, "GET", "/ca.der").Body.Bytes()
	if root, err := x509.ParseCertificate(der); err != nil || root.Subject.CommonName != "new root" {
		t.Errorf("ca.der is of %v, %v", root, err)
	}
	next := newRoot(t, "next root")
	k.o.Roots = func() []byte { return next }
	if got := ask(k, "GET", "/ca.pem").Body.String(); got != string(next) {
		t.Errorf("after a rotation ca.pem is %s", got)
	}
	k.o.Roots = func() []byte { return nil }
	if got := ask(k, "GET", "/ca.pem"); got.Code != 500 || got.Header().Get("ETag") != "" {
		t.Errorf("without a root: %d", got.Code)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	k, _ := newKit(t, Options{})
	for _, test := range []struct {
		method, path string
		status       int
		text         string
	}{
		{"GET", "/nothing", 404, "/ca.pem"},
		{"GET", "//ca.pem", 404, "there is no"},
		{"GET", "/x/../ca.pem", 404, "there is no"},
		{"GET", "/ca.pem/", 404, "there is no"},
		{"GET", "/%0d%0aX:y", 404, "there is no"},
		{"POST", "/ca.pem", 405, "hint: use GET"},
		{"DELETE", "/nothing", 404, "there is no"},
		{"OPTIONS", "/ca.pem", 405, "hint"},
	} {
		got := ask(k, test.method, test.path)
		if got.Code != test.status || !strings.Contains(got.Body.String(), test.text) || got.Header().Get("Location") != "" {
			t.Errorf("%s %s: %d %v %s", test.method, test.path, got.Code, got.Header(), got.Body)
		}
		if allow := got.Header().Get("Allow"); (allow == "GET, HEAD") != (test.status == 405) {
			t.Errorf("%s %s: Allow %q", test.method, test.path, allow)
		}
	}
	k.Set(Settings{})
	if got := ask(k, "GET", "/ca.pem"); got.Code != 404 || !strings.Contains(got.Body.String(), "this is a proxy") {
		t.Errorf("switched off: %d %s", got.Code, got.Body)
	}
}

func TestRoutesOfOthers(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	k, _ := newKit(t, Options{Registerer: registry, Routes: []Route{
		{Path: "/doctor", Summary: "whether all is well", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })},
		{Path: "/below/", Handler: http.NotFoundHandler()},
	}})
	if got := ask(k, "GET", "/doctor"); got.Code != http.StatusTeapot {
		t.Errorf("/doctor: %d", got.Code)
	}
	if got := ask(k, "POST", "/doctor"); got.Code != 405 {
		t.Errorf("POST /doctor: %d", got.Code)
	}
	if got := ask(k, "GET", "/below/x").Body.String(); !strings.HasPrefix(got, "404 page not found") {
		t.Errorf("/below/x: %s", got)
	}
	if got := ask(k, "GET", "/nothing").Body.String(); !strings.Contains(got, "/doctor") || strings.Contains(got, "/below") {
		t.Errorf("the list is %s", got)
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	want := `
# HELP larder_kit_requests_total Requests to the kit on the proxy's own port, by path and status.
# TYPE larder_kit_requests_total counter
larder_kit_requests_total{path="/below/",status="404"} 1
larder_kit_requests_total{path="/doctor",status="405"} 1
larder_kit_requests_total{path="/doctor",status="418"} 1
larder_kit_requests_total{path="other",status="404"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestTargetIsAHostAndAPort(t *testing.T) {
	k, _ := newKit(t, Options{})
	for host, want := range map[string]string{
		"larder.example:3128": "http://larder.example:3128", "LARDER.example.:3128": "http://larder.example:3128",
		"larder": "http://larder:80", "10.1.2.3:1": "http://10.1.2.3:1", "[fd00::1]:3128": "http://[fd00::1]:3128",
		"[fd00::1]": "http://[fd00::1]:80", "[::ffff:10.1.2.3]:3128": "http://10.1.2.3:3128", "build_1:65535": "http://build_1:65535",

		"": "", ":3128": "", "larder:": "", "larder:0": "", "larder:65536": "", "larder:+1": "", "larder:01": "", "larder:3128:1": "",
		"fd00::1": "", "[fd00::1": "", "[fe80::1%eth0]:1": "", "[10.1.2.3]:1": "", "a..b:1": "", "-x:1": "", "u@larder:1": "", "larder/x": "",
		"$(id):3128": "", "`id`": "", "a;id:1": "", "a'b": "", "a\"b": "", "a b": "", "a\nb": "", "a&b": "", "bücher.example": "", "a%41": "",
		strings.Repeat("a", 64): "", strings.Repeat("a.", 127) + "aa": "",
	} {
		got, err := k.Target(&http.Request{Host: host})
		if (err == nil) != (want != "") || err == nil && (got.URL() != want || got.Proxy != want) {
			t.Errorf("%q: %v, %v; want %q", host, got, err, want)
		}
	}
	if got, err := k.Target(&http.Request{Host: "larder:3443", TLS: &tls.ConnectionState{}}); err != nil || got.URL() != "https://larder:3443" {
		t.Errorf("over TLS: %v, %v", got, err)
	}
	k.Set(Settings{Proxy: "http://elsewhere.example:3128"})
	if got, err := k.Target(&http.Request{Host: "larder:1"}); err != nil || got.Proxy != "http://elsewhere.example:3128" || got.URL() != "http://larder:1" {
		t.Errorf("with proxy_url: %v, %v", got, err)
	}
}

func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"larder.example:3128", "[fd00::1]:3128", "10.1.2.3", "a:b:1", "[::1%25x]"} {
		f.Add(seed)
	}
	k, _ := newKit(f, Options{})
	f.Fuzz(func(t *testing.T, host string) {
		target, err := k.Target(&http.Request{Host: host})
		if err != nil {
			return
		}
		if strings.Trim(target.URL(), "abcdefghijklmnopqrstuvwxyz0123456789.-_:/[]") != "" {
			t.Errorf("%q became %s", host, target.URL())
		}
		again, err := k.Target(&http.Request{Host: strings.TrimPrefix(target.URL(), "http://")})
		if err != nil || again != target {
			t.Errorf("%q became %v, and that %v, %v", host, target, again, err)
		}
	})
}
