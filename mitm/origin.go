package mitm

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"

	"larder/policy"
)

// origin is what some hosts are verified by and shown. What comes from files is
// replaced when they are read again.
type origin struct {
	policy.Origin
	credential atomic.Pointer[credential]
	tls        atomic.Pointer[material]
}

// material is what TLS connections are made with.
type material struct {
	roots       *x509.CertPool    // nil: the system's
	certificate *tls.Certificate  // nil: none
	digest      [sha256.Size]byte // of the files it was read from
}

// secrets is what the files of an origin or a parent hold.
type secrets struct {
	credential *credential
	tls        *material
}

// read reads the files. rest is what holds where the entry names no roots.
func (o *origin) read(rest *material) (secrets, error) {
	var s secrets
	var err error
	if s.credential, err = readCredential(o.CredentialsFile); err != nil {
		return s, fmt.Errorf("credentials_file: %w", err)
	}
	if s.tls, err = readRoots(o.CAFile, o.CAFile == "" || o.SystemRoots, rest); err != nil {
		return s, fmt.Errorf("ca_file: %w", err)
	}
	if o.CertificateFile == "" {
		return s, nil
	}
	chain, err := os.ReadFile(o.CertificateFile)
	if err != nil {
		return s, fmt.Errorf("certificate_file: %w", err)
	}
	key, err := readSecret(o.KeyFile)
	if err != nil {
		return s, fmt.Errorf("key_file: %w", err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return s, fmt.Errorf("certificate_file %s with key_file %s: %w", o.CertificateFile, o.KeyFile, err)
	}
	s.tls = &material{s.tls.roots, &pair, digest(s.tls.digest[:], chain, key)}
	return s, nil
}

// readRoots reads roots, besides the system's or instead of them. Without a file
// it returns rest, or the system's.
func readRoots(file string, system bool, rest *material) (*material, error) {
	if file == "" {
		if rest == nil {
			rest = &material{} // crypto/x509 reads the system's at first use
		}
		return rest, nil
	}
	roots := x509.NewCertPool()
	if system {
		var err error
		if roots, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("read system roots: %w", err)
		}
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no PEM certificate in it", file)
	}
	return &material{roots: roots, digest: digest(pem)}, nil
}

// inject returns the request with the credential of its origin, if it is to have
// it: over TLS, to the very authority that the connection is verified for, with a
// method that the entry names, and not where the client identifies itself.
func (o *origin) inject(r *http.Request) (sent *http.Request, injected bool) {
	c := o.credential.Load()
	if c == nil || r.URL.Scheme != "https" || !o.Injects(r.Method) {
		return r, false
	}
	if _, own := r.Header["Authorization"]; own || !ownAuthority(r) || mayMean(r) {
		return r, false
	}
	out := new(*r)
	out.Header = r.Header.Clone()
	if out.Header == nil {
		out.Header = http.Header{}
	}
	out.Header["Authorization"] = []string{c.field}
	return out, true
}

// mayMean reports whether a request may mean another method than it has: by a field
// that frameworks obey, by a body, or by what follows once the protocol is another.
func mayMean(r *http.Request) bool {
	for _, name := range []string{"Upgrade", "X-Http-Method", "X-Http-Method-Override", "X-Method-Override"} {
		if _, ok := r.Header[name]; ok {
			return true
		}
	}
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Body != nil && r.Body != http.NoBody
}

// ownAuthority reports whether Host says what the target does. Whoever calls
// RoundTrip has made sure of it; a credential is worth a second look.
func ownAuthority(r *http.Request) bool {
	if r.Host == "" || r.Host == r.URL.Host {
		return true
	}
	a, err := parseAuthority(r.Host, 443)
	b, err2 := parseAuthority(r.URL.Host, 443)
	return errors.Join(err, err2) == nil && a == b
}
