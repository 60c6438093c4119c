package kit

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"larder/certs"
)

// file is something that the kit makes itself.
type file struct {
	path        string
	contentType string
	summary     string
	// shared makes what is the same for every node. nil: own makes it.
	shared func(*common) *content
	// own makes what is another for each Target.
	own func(*request) ([]byte, error)
}

// request is what a file of a node's own is made of.
type request struct {
	*http.Request
	kit      *Kit
	common   *common
	settings *Settings
	target   Target
}

const (
	text = "text/plain; charset=utf-8"
	html = "text/html; charset=utf-8"
	// RFC 8555, Section 9.1: certificates in PEM, and no more than that.
	pemChain = "application/pem-certificate-chain"
	pkcs12   = "application/x-pkcs12"
)

// files are those of the kit, in the order in which they are listed.
func files() []file {
	all := []file{
		{path: "/", contentType: html, own: page("index", "larder at this address")},
		{path: "/setup", contentType: html, own: page("setup", "What each tool needs")},
		{path: "/ca.pem", contentType: pemChain, summary: "larder's root; during a rotation the new one and the old", shared: func(c *common) *content { return c.ca }},
		{path: "/ca.der", contentType: "application/pkix-cert", summary: "the root that signs, in DER", shared: func(c *common) *content { return c.der }},
		{path: "/ca.p12", contentType: pkcs12, summary: "as ca.pem, as a PKCS #12 trust store; its password is changeit", shared: func(c *common) *content { return c.caStore }},
		{path: "/bundle.pem", contentType: pemChain, summary: "the roots of larder's operating system, and larder's", shared: func(c *common) *content { return c.bundle }},
		{path: "/truststore.p12", contentType: pkcs12, summary: "as bundle.pem, for JVMs; its password is changeit", shared: func(c *common) *content { return c.store }},
	}
	for _, s := range certs.Paths("/").Settings() {
		name := filepath.Base(s.Path)
		all = append(all, file{path: "/" + name, contentType: text, summary: "where tools find the bundle that read no variable for it", own: setting(name)})
	}
	for _, format := range certs.Formats() {
		all = append(all, file{path: "/env." + format, contentType: text, summary: "the environment, for " + format, own: environment(format)})
	}
	all = append(all, file{path: "/setup.sh", contentType: text, summary: "sets up a whole machine, and takes it back", own: setup})
	return append(all, file{path: "/SHA256SUMS", contentType: text, summary: "SHA-256 of each file, for sha256sum -c", own: sums})
}

// cacheControl is short: nodes are to learn soon of a new root.
const cacheControl = "public, max-age=60"

// file answers with a file.
func (k *Kit) file(f file) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := k.make(f, r)
		if err != nil {
			k.fail(w, r, err)
			return
		}
		h := w.Header()
		h.Set("Content-Type", f.contentType)
		h.Set("Cache-Control", cacheControl)
		h.Set("ETag", `"`+hex.EncodeToString(c.sum[:])+`"`)
		// RFC 9530, Section 3. It says that nothing was lost, not that nobody changed
		// it: who can do the one can do the other.
		h.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(c.sum[:])+":")
		if f.contentType == html {
			h.Set("Content-Security-Policy", pagePolicy())
			h.Set("Referrer-Policy", "no-referrer")
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(c.body))
	})
}

func (k *Kit) make(f file, r *http.Request) (*content, error) {
	c, err := k.assemble()
	if err != nil {
		return nil, err
	}
	if f.shared != nil {
		return f.shared(c), nil
	}
	t, err := k.Target(r)
	if err != nil {
		return nil, err
	}
	body, err := f.own(&request{Request: r, kit: k, common: c, settings: k.settings.Load(), target: t})
	return newContent(body), err
}

// fail answers with an error, whose details are for the log where they are not the
// client's doing.
func (k *Kit) fail(w http.ResponseWriter, r *http.Request, err error) {
	if bad, ok := errors.AsType[*parameterError](err); ok {
		refuse(w, http.StatusBadRequest, bad.Error(), "write "+r.URL.Path+"?dir=/absolute/path, or leave it out")
		return
	}
	if bad, ok := errors.AsType[*hostError](err); ok {
		refuse(w, http.StatusBadRequest, bad.Error(), "address larder by its name or address and port, as http://larder.example:3128/")
		return
	}
	k.o.Logger.Error("kit cannot be made", "path", r.URL.Path, "err", err)
	refuse(w, http.StatusInternalServerError, "this could not be made", "larder's log says why")
}

// sums lists the digests of what a node would get under the same Host.
func sums(r *request) ([]byte, error) {
	var b bytes.Buffer
	for _, f := range files() {
		if f.path == r.URL.Path || f.contentType == html {
			continue
		}
		c, err := r.kit.make(f, r.Request)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%x  %s\n", c.sum, f.path[1:])
	}
	return b.Bytes(), nil
}
