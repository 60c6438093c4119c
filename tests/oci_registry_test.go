package tests

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"larder/tests/origin"
)

// ociRegistry is distribution's registry, a process of its own, behind the names of
// Docker Hub, say: a front that speaks TLS, an authorization server, and storage to which
// the front may redirect.
type ociRegistry struct {
	origins               *origin.Server
	host, tokens, storage string
	root                  string // of the registry's files
	key                   *ecdsa.PrivateKey
	certificate           []byte // of key, DER
	secret                []byte // signs URLs of the storage
	// redirects: blobs are at the storage. broken: the storage answers 503.
	redirects, broken atomic.Bool
}

// The users of the registry. Repositories below team are for ci, those below public
// for everybody to pull.
var ociUsers = map[string]string{"ci": "letmein", "stranger": "whatever"}

func ociAllows(user, repository, action string) bool {
	return user == "ci" || action == "pull" && strings.HasPrefix(repository, "public/")
}

// dockerHub are the hosts of Docker Hub: registry, tokens, storage.
func dockerHub() [3]string {
	return [3]string{host("registry-1", "docker", "io"), host("auth", "docker", "io"), host("production", "cloudfront", "docker", "com")}
}

// startOCIRegistry starts a registry at hosts that ends with the test.
func startOCIRegistry(t testing.TB, origins *origin.Server, hosts [3]string) *ociRegistry {
	t.Helper()
	requireClient(t, "docker-registry")
	dir := privateDir(t)
	r := &ociRegistry{
		origins: origins, root: filepath.Join(dir, "files"), secret: []byte(rand.Text()),
		host: hosts[0], tokens: hosts[1], storage: hosts[2],
	}
	r.makeKey(t)
	bundle := writeFile(t, dir, "tokens.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.certificate})))
	backend := r.start(t, dir, writeFile(t, dir, "registry.yml", fmt.Sprintf(`version: 0.1
log: { level: info, accesslog: { disabled: true } }
storage: { filesystem: { rootdirectory: %q }, delete: { enabled: true } }
http: { addr: "127.0.0.1:0", host: "https://%s" }
auth: { token: { realm: "https://%s/token", service: %q, issuer: tests, rootcertbundle: %q } }
`, r.root, r.host, r.tokens, r.host, bundle)))
	origins.Handle(r.host, r.front(backend))
	origins.Handle(r.tokens, http.HandlerFunc(r.serveToken))
	origins.Handle(r.storage, http.HandlerFunc(r.serveStorage))
	return r
}

// makeKey makes what tokens are signed with. The certificate says that the key may.
func (r *ociRegistry) makeKey(t testing.TB) {
	t.Helper()
	var err error
	r.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tokens"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	r.certificate, err = x509.CreateCertificate(rand.Reader, template, template, &r.key.PublicKey, r.key)
	must(t, err)
}

// start runs the registry and returns its URL.
func (r *ociRegistry) start(t testing.TB, dir, config string) *url.URL {
	t.Helper()
	cmd := exec.Command("docker-registry", "serve", config)
	cmd.Dir, cmd.Env = dir, hermetic(dir, "OTEL_TRACES_EXPORTER=none")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	at := make(chan string, 1)
	done := make(chan struct{})
	go func() { // ends with the process
		defer close(done)
		listening := regexp.MustCompile(`listening on (127\.0\.0\.1:[0-9]+)`)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				at <- m[1]
			}
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
	})
	select {
	case address := <-at:
		return &url.URL{Scheme: "http", Host: address}
	case <-done:
		t.Fatal("docker-registry ended at once")
	case <-time.After(patience):
		t.Fatal("docker-registry does not listen")
	}
	return nil
}

// front passes requests on to the registry, or sends who may have a blob to the storage.
func (r *ociRegistry) front(backend *url.URL) http.Handler {
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(backend)
		p.Out.Host = p.In.Host
		p.Out.Header.Set("X-Forwarded-Proto", "https")
	}}
	blob := regexp.MustCompile(`^/v2/.+/blobs/sha256:([0-9a-f]{64})$`)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		m := blob.FindStringSubmatch(req.URL.Path)
		if !r.redirects.Load() || m == nil || req.Method != http.MethodGet && req.Method != http.MethodHead {
			proxy.ServeHTTP(w, req)
			return
		}
		asked, _ := http.NewRequestWithContext(req.Context(), http.MethodHead, backend.String()+req.URL.Path, nil)
		asked.Header["Authorization"] = req.Header["Authorization"]
		res, err := http.DefaultTransport.RoundTrip(asked)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			proxy.ServeHTTP(w, req) // with the answer's body
			return
		}
		w.Header().Set("Docker-Content-Digest", "sha256:"+m[1])
		w.Header().Set("Cache-Control", "max-age=31536000") // as Quay says
		http.Redirect(w, req, r.signed(m[1], time.Now().Add(time.Minute)), http.StatusTemporaryRedirect)
	})
}

// signed is a URL of a blob at the storage that is good until end.
func (r *ociRegistry) signed(sum string, end time.Time) string {
	path := "/registry-v2/docker/registry/v2/blobs/sha256/" + sum[:2] + "/" + sum + "/data"
	expires := strconv.FormatInt(end.Unix(), 10)
	return "https://" + r.storage + path + "?Expires=" + expires + "&Signature=" + r.sign(path, expires) + "&Key-Pair-Id=K1"
}

func (r *ociRegistry) sign(path, expires string) string {
	mac := hmac.New(sha256.New, r.secret)
	fmt.Fprint(mac, path, expires)
	return hex.EncodeToString(mac.Sum(nil))
}

// serveStorage serves files to whoever has a signed URL, as CloudFront does.
func (r *ociRegistry) serveStorage(w http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	expires, _ := strconv.ParseInt(q.Get("Expires"), 10, 64)
	switch {
	case r.broken.Load():
		http.Error(w, "no storage today", http.StatusServiceUnavailable)
		return
	case req.Header.Get("Authorization") != "":
		http.Error(w, "two ways to authorize", http.StatusBadRequest)
		return
	case req.Method != http.MethodGet, time.Now().Unix() >= expires,
		!hmac.Equal([]byte(q.Get("Signature")), []byte(r.sign(req.URL.Path, q.Get("Expires")))):
		http.Error(w, "AccessDenied", http.StatusForbidden)
		return
	}
	f, err := os.Open(filepath.Join(r.root, strings.TrimPrefix(req.URL.Path, "/registry-v2")))
	if err != nil {
		http.Error(w, "NoSuchKey", http.StatusNotFound)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Etag", `"`+filepath.Base(filepath.Dir(req.URL.Path))[:16]+`"`)
	http.ServeContent(w, req, "", time.Time{}, f)
}

// serveToken answers as distribution's token specifications say: to GET, and to the POST
// of OAuth that containerd sends.
func (r *ociRegistry) serveToken(w http.ResponseWriter, req *http.Request) {
	user, password, given := req.BasicAuth()
	if req.Method == http.MethodPost {
		user, password, given = req.PostFormValue("username"), req.PostFormValue("password"), true
	}
	if want, known := ociUsers[user]; given && (!known || password != want) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var scopes []string
	for _, list := range append(req.URL.Query()["scope"], req.PostFormValue("scope")) {
		scopes = append(scopes, strings.Fields(list)...)
	}
	token := r.token(user, 5*time.Minute, scopes...)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "access_token": token, "expires_in": 300})
}

// token is a JSON Web Token for what of the scopes the user may.
func (r *ociRegistry) token(user string, life time.Duration, scopes ...string) string {
	type access struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	}
	granted := []access{}
	for _, scope := range scopes {
		parts := strings.Split(scope, ":")
		if len(parts) != 3 {
			continue
		}
		actions := slices.DeleteFunc(strings.Split(parts[2], ","), func(a string) bool { return !ociAllows(user, parts[1], a) })
		if len(actions) > 0 {
			granted = append(granted, access{parts[0], parts[1], actions})
		}
	}
	now := time.Now()
	claims := map[string]any{
		"iss": "tests", "sub": user, "aud": r.host, "jti": rand.Text(), "access": granted,
		"nbf": now.Add(-time.Minute).Unix(), "iat": now.Unix(), "exp": now.Add(life).Unix(),
	}
	header := map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(r.certificate)}}
	encode := func(v any) string {
		data, _ := json.Marshal(v) // maps of strings and numbers
		return base64.RawURLEncoding.EncodeToString(data)
	}
	text := encode(header) + "." + encode(claims)
	sum := sha256.Sum256([]byte(text))
	x, y, err := ecdsa.Sign(rand.Reader, r.key, sum[:])
	if err != nil {
		panic(err)
	}
	signature := append(x.FillBytes(make([]byte, 32)), y.FillBytes(make([]byte, 32))...)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// pulled counts what the registry and its storage sent of a kind: blobs or manifests.
func (r *ociRegistry) pulled(kind string) int {
	n, _ := origin.Sum(r.origins.Exchanges(func(e origin.Exchange) bool {
		sent := e.Status == http.StatusOK || e.Status == http.StatusPartialContent
		whole := !strings.Contains(e.Header.Get("Range"), "bytes=0-0")
		return e.Method == http.MethodGet && sent && whole && (e.Host == r.host && strings.Contains(e.Path, "/"+kind+"/") || e.Host == r.storage && kind == "blobs")
	}))
	return n
}

// heads counts the questions that the registry was asked.
func (r *ociRegistry) heads() int {
	n, _ := origin.Sum(r.origins.Exchanges(func(e origin.Exchange) bool { return e.Method == http.MethodHead && e.Host == r.host }))
	return n
}

// ask sends a request through larder with a bearer token, or without any, and follows
// no redirect.
func (r *ociRegistry) ask(t testing.TB, c *http.Client, method, target, token string, fields ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, nil)
	must(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	res, err := c.Transport.RoundTrip(req)
	must(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(t, err)
	return res, body
}
