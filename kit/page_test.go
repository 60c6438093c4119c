package kit

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPagesShowTheFingerprintsAndWhatToPaste(t *testing.T) {
	k, _ := newKit(t, Options{Routes: []Route{
		{Path: "/doctor", Summary: "Whether <all> is well", Handler: http.NotFoundHandler()},
		{Path: "/hidden", Handler: http.NotFoundHandler()},
	}})
	got := ask(k, "GET", "/")
	body := got.Body.String()
	c, err := k.assemble()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		rootName(c.roots[0]), rootName(c.roots[1]) + " (the old root",
		`curl -fsS --noproxy &#39;*&#39; -o setup.sh http://larder.example:3128/setup.sh`,
		"plain HTTP", `<a href="/doctor">Whether &lt;all&gt; is well</a>`, `<a href="/ca.p12">`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q:\n%s", want, body)
		}
	}
	for _, f := range strings.Fields("<script http-equiv <img <link hidden") {
		if strings.Contains(body, f) {
			t.Errorf("the page has %q", f)
		}
	}
	if policy := got.Header().Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") {
		t.Errorf("policy %q", policy)
	}
	if setup := ask(k, "GET", "/setup").Body.String(); !strings.Contains(setup, "-Dhttps.proxyHost=larder.example -Dhttps.proxyPort=3128") {
		t.Errorf("/setup is %s", setup)
	}
}

func TestWhatComesOverTLSVouchesForTheRoots(t *testing.T) {
	k, _ := newKit(t, Options{})
	over := func(path string) string {
		r := httptest.NewRequest("GET", "https://larder.example:3443"+path, nil)
		r.TLS = &tls.ConnectionState{}
		w := httptest.NewRecorder()
		k.ServeHTTP(w, r)
		return w.Body.String()
	}
	if script := over("/setup.sh"); !strings.Contains(script, "\nKIT='https://larder.example:3443'\n") || strings.Contains(script, "\nVOUCHED=''\n") {
		t.Errorf("over TLS:\n%.600s", script)
	}
	if script := ask(k, "GET", "/setup.sh").Body.String(); !strings.Contains(script, "\nVOUCHED=''\n") {
		t.Errorf("over plain HTTP:\n%.600s", script)
	}
	if body := over("/"); strings.Contains(body, "plain HTTP") || !strings.Contains(body, "over TLS") {
		t.Errorf("over TLS:\n%s", body)
	}
	if env := over("/env.sh"); !strings.Contains(env, "export https_proxy='https://larder.example:3443'\n") || strings.Contains(env, "proxyHost") {
		t.Errorf("over TLS:\n%s", env)
	}
}

// TestAnchorsAreForEachTool lists those that other packages link to.
func TestAnchorsAreForEachTool(t *testing.T) {
	got := Anchors()
	for want := range strings.FieldsSeq("apt browser bun cargo conda container curl deno dotnet firefox git gnutls go gradle java kubernetes maven " +
		"node npm openssl perl php pip pnpm python ruby rust uv wget yarn") {
		if !slices.Contains(got, want) {
			t.Errorf("/setup has no #%s", want)
		}
	}
	slices.Sort(got)
	if len(slices.Compact(got)) != len(Anchors()) {
		t.Errorf("an anchor is there twice: %v", got)
	}
}

func TestFolderOfANode(t *testing.T) {
	k, _ := newKit(t, Options{})
	for query, want := range map[string]string{
		"": "/etc/larder/trust/", "?dir=/home/ci/.larder": "/home/ci/.larder/", "?dir=%2Fa": "/a/", "?": "/etc/larder/trust/",

		"?dir=relative": "", "?dir=/": "", "?dir=/a/": "", "?dir=/a/../b": "", "?dir=/a/.": "", "?dir=//a": "", "?dir=/a%27b": "", "?dir=/$(id)": "",
		"?dir=/a%0ab": "", "?dir=/a&dir=/b": "", "?dri=/a": "", "?dir=/a;b": "", "?dir=/%zz": "", "?dir=/a%20b": "",
	} {
		for path, in := range map[string]string{"/env.sh": "export SSL_CERT_FILE='%bundle.pem'\n", "/apt.conf": "CaInfo \"%bundle.pem\"", "/wgetrc": "ca_certificate = %bundle.pem\n"} {
			got := ask(k, "GET", path+query)
			if want == "" {
				if got.Code != 400 || !strings.Contains(got.Body.String(), "hint: write "+path+"?dir=/") {
					t.Errorf("%s%s: %d %s", path, query, got.Code, got.Body)
				}
				continue
			}
			if in := strings.Replace(in, "%", want, 1); got.Code != 200 || !strings.Contains(got.Body.String(), in) {
				t.Errorf("%s%s: %d, without %q:\n%s", path, query, got.Code, in, got.Body)
			}
		}
	}
}

func TestHostsThatAreNoneGetNoScript(t *testing.T) {
	k, _ := newKit(t, Options{})
	for _, path := range []string{"/env.sh", "/setup.sh", "/", "/SHA256SUMS"} {
		r := httptest.NewRequest("GET", path, nil)
		r.Host = "x$(id):3128"
		w := httptest.NewRecorder()
		k.ServeHTTP(w, r)
		if w.Code != 400 || strings.Contains(w.Body.String(), "$(id)") || w.Header().Get("ETag") != "" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	k.Set(Settings{Enabled: true, Proxy: "http://elsewhere.test:3128"})
	if got := ask(k, "GET", "/env.sh").Body.String(); !strings.Contains(got, "'http://elsewhere.test:3128'") || strings.Contains(got, "larder.example") {
		t.Errorf("with proxy_url:\n%s", got)
	}
}

func TestTheSystemsRootsAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, _ := newKit(t, Options{})
		first, err := k.assemble()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(systemFor - time.Second)
		if again, err := k.assemble(); err != nil || again != first {
			t.Errorf("%p, %v; want %p", again, err, first)
		}
		time.Sleep(time.Second)
		if again, err := k.assemble(); err != nil || again == first || again.store != first.store {
			t.Errorf("%p, %v; want another with the same trust store", again, err)
		}
	})
}

func FuzzFolder(f *testing.F) {
	for _, seed := range []string{"dir=/a", "dir=/a/../b", "dir=%2fa%00", "dir=/a;b", "x=y&dir=/a", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := &request{Request: &http.Request{URL: &url.URL{RawQuery: query}}}
		if dir, err := r.folder(); err == nil && (dir != path.Clean(dir) || !path.IsAbs(dir) || strings.Trim(dir, plain) != "") {
			t.Errorf("%q gives %q", query, dir)
		}
	})
}
