package kit

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/url"
	"regexp"
	"strings"

	"larder/certs"
)

//go:embed pages.html
var pagesText string

//go:embed page.css
var pageStyle string

// parsePages parses what is embedded, so an error is a bug that every test sees.
func parsePages() *template.Template { return template.Must(template.New("pages").Parse(pagesText)) }

// pagePolicy lets a page use its own style and nothing else.
func pagePolicy() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// Anchors are the parts of /setup, each about a tool or a family of them: /setup#java.
func Anchors() []string {
	var all []string
	for _, m := range regexp.MustCompile(` id="([a-z]+)"`).FindAllStringSubmatch(pagesText, -1) {
		all = append(all, m[1])
	}
	return all
}

// rootLine is a root as a page shows it.
type rootLine struct {
	Name, Until, Fingerprint string
	Old                      bool
}

// pageData is what pages are made of.
type pageData struct {
	Title            string
	Style            template.CSS
	URL, Proxy       string
	Host, Port       string // of the proxy
	Roots            []rootLine
	Secure, OverTLS  bool   // this page, the proxy
	Curl             string // the command up to its options
	FingerprintFlags string
	Files            []fileLine
	Routes           []Route
}

type fileLine struct{ Path, Summary string }

// page makes a page for people.
func page(name, title string) func(*request) ([]byte, error) {
	return func(r *request) ([]byte, error) {
		d, err := r.pageData()
		if err != nil {
			return nil, err
		}
		d.Title = title
		var b bytes.Buffer
		err = r.kit.pages.ExecuteTemplate(&b, name, d)
		return b.Bytes(), err
	}
}

func (r *request) pageData() (*pageData, error) {
	proxy, err := url.Parse(r.target.Proxy)
	if err != nil {
		return nil, fmt.Errorf("read the proxy's URL: %w", err)
	}
	d := &pageData{
		Style: template.CSS(pageStyle),
		URL:   r.target.URL(), Proxy: r.target.Proxy, Host: proxy.Hostname(), Port: proxy.Port(),
		Secure: r.TLS != nil, OverTLS: proxy.Scheme == "https",
		// The proxy refuses to be asked for itself.
		Curl: "curl -fsS --noproxy '*'",
	}
	if d.Secure {
		d.Curl += " --cacert ca.pem"
	}
	for i, root := range r.common.roots {
		line := rootLine{Name: rootName(root), Until: root.NotAfter.UTC().Format("2006-01-02"), Fingerprint: certs.Fingerprint(root), Old: i > 0}
		d.Roots = append(d.Roots, line)
		d.FingerprintFlags += " --fingerprint SHA256:" + line.Fingerprint
	}
	for _, f := range files() {
		if f.summary != "" {
			d.Files = append(d.Files, fileLine{f.path, f.summary})
		}
	}
	for _, route := range r.kit.o.Routes {
		if route.Summary != "" {
			d.Routes = append(d.Routes, route)
		}
	}
	return d, nil
}

func rootName(root *x509.Certificate) string {
	return cmp.Or(root.Subject.CommonName, strings.Join(root.Subject.Organization, ", "), "root")
}
