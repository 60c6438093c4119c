package mitm

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// ProxyTLSOptions say which certificate a proxy over TLS shows, and which
// clients it admits.
type ProxyTLSOptions struct {
	// CertFile and KeyFile are PEM files, read anew when they change. "": leaves
	// for Names.
	CertFile, KeyFile string
	// Names are the host names and addresses for which Certificates gives leaves.
	// A client that asks for none of them gets that for the address it came to,
	// or the first.
	Names []string
	// Certificates signs for Names.
	Certificates Certificates
	// ClientCAFile is a PEM file of roots; clients must show a certificate of
	// theirs. "": none is asked for.
	ClientCAFile string
	// Logger is told when changed files cannot be read. nil: nobody is.
	Logger *slog.Logger
}

// NewProxyTLS reads the files and returns what Entrance.TLS wants. Its ALPN is
// http/1.1: CONNECT over HTTP/2 is another protocol (RFC 9113, Section 8.5).
func NewProxyTLS(o ProxyTLSOptions) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: suites(), NextProtos: []string{"http/1.1"}}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if o.CertFile != "" {
		config.GetCertificate, err = fromFiles(o)
	} else {
		config.GetCertificate, err = fromAuthority(o)
	}
	if err != nil {
		return nil, err
	}
	if o.ClientCAFile != "" {
		pem, err := os.ReadFile(o.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("read client_ca_file: %w", err)
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read client_ca_file %s: no PEM certificate in it", o.ClientCAFile)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
}

type getCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// fromAuthority chooses among the leaves of larder's own authority.
func fromAuthority(o ProxyTLSOptions) (getCertificate, error) {
	if len(o.Names) == 0 {
		return nil, errors.New("a proxy over TLS needs a certificate or names")
	}
	names := make([]string, len(o.Names))
	for i, n := range o.Names {
		if addr, err := netip.ParseAddr(n); err == nil && addr.Is6() {
			n = "[" + n + "]"
		}
		var err error
		if names[i], err = normalHost(n); err != nil {
			return nil, fmt.Errorf("name %q: %w", n, err)
		}
	}
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		for _, asked := range []string{hello.ServerName, localHost(hello.Conn)} {
			if asked, err := normalHost(asked); err == nil && slices.Contains(names, asked) {
				return o.Certificates.Leaf(hello.Context(), asked)
			}
		}
		return o.Certificates.Leaf(hello.Context(), names[0])
	}, nil
}

// localHost is the address that a client came to, in brackets if of IPv6.
func localHost(c net.Conn) string {
	ap, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return ""
	}
	addr := ap.Addr().Unmap().WithZone("")
	if addr.Is6() {
		return "[" + addr.String() + "]"
	}
	return addr.String()
}

// fromFiles serves the pair of two files as it is at the moment.
func fromFiles(o ProxyTLSOptions) (getCertificate, error) {
	f := &filePair{cert: o.CertFile, key: o.KeyFile}
	if _, err := f.certificate(); err != nil {
		return nil, err
	}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		c, err := f.certificate()
		if err != nil {
			// Renewal writes two files, one after the other; the old pair serves on.
			o.Logger.Warn("changed certificate cannot be used, the old one stays", "cert_file", o.CertFile, "err", err)
		}
		return c, nil
	}, nil
}

// filePair is a certificate with its key in two files.
type filePair struct {
	cert, key string

	mu     sync.Mutex // guards the rest
	loaded *tls.Certificate
	when   [2]time.Time // the files' modification times when last read
}

// certificate returns the pair, and beside an error the one before.
func (f *filePair) certificate() (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var when [2]time.Time
	for i, name := range []string{f.cert, f.key} {
		info, err := os.Stat(name)
		if err != nil {
			return f.loaded, fmt.Errorf("read the proxy's certificate: %w", err)
		}
		when[i] = info.ModTime()
	}
	if f.loaded != nil && when == f.when {
		return f.loaded, nil
	}
	f.when = when // a pair that does not fit is complained about once
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return f.loaded, fmt.Errorf("read the proxy's certificate: %w", err)
	}
	f.loaded = &pair
	return f.loaded, nil
}
