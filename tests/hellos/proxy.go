package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// target is what clients are asked to fetch from.
const target = "repo.example"

// idle is how long a client may be silent after its handshake.
const idle = 5 * time.Second

// proxy answers CONNECT with an untrusted certificate.
type proxy struct {
	net.Listener
	config *tls.Config
	served sync.WaitGroup

	mu    sync.Mutex // guards found
	found []Fixture
}

func newProxy() (*proxy, error) {
	certificate, err := untrusted()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{Listener: l, config: &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"},
	}}
	p.served.Go(func() { // ends with the listener
		for {
			c, err := p.Accept()
			if err != nil {
				return
			}
			p.served.Go(func() { p.serve(c) }) // ends with the client, or idle
		}
	})
	return p, nil
}

func (p *proxy) address() string { return p.Addr().String() }

// seen waits for all connections to end and returns those that got to TLS.
func (p *proxy) seen() []Fixture {
	_ = p.Close()
	p.served.Wait()
	return p.found
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	if c.SetDeadline(time.Now().Add(idle)) != nil {
		return
	}
	first := &recorder{Conn: c}
	r, err := http.ReadRequest(bufio.NewReaderSize(oneByte{c}, 16))
	if err != nil || r.Method != http.MethodConnect || r.RequestURI != target+":443" {
		return // browsers also call home
	}
	if _, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	t := tls.Server(first, p.config)
	handshake := t.Handshake()
	f := Fixture{UserAgent: r.Header.Get("User-Agent"), Ending: ending(handshake)}
	if name := plainAlert(first.second); handshake != nil && name != "" {
		f.Ending = "alert " + name + " in clear"
	}
	if handshake == nil {
		state := t.ConnectionState()
		f.TLS, f.ALPN = tls.VersionName(state.Version), state.NegotiatedProtocol
		n, err := t.Read(make([]byte, 100))
		f.Ending = "after the handshake: " + ending(err)
		if n > 0 {
			f.Ending = "trusted"
		}
	}
	f.Hello = first.flight.Bytes()
	if len(f.Hello) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found = append(p.found, f)
}

// ending puts the end of a connection into words.
func ending(err error) string {
	op, _ := errors.AsType[*net.OpError](err)
	switch {
	case op != nil && op.Op == "remote error":
		return "alert " + op.Err.Error()
	case errors.Is(err, io.EOF):
		return "closed"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case op != nil && op.Timeout():
		return "silent"
	case err == nil:
		return "no error"
	default:
		return err.Error()
	}
}

// plainAlert reads an alert that was not encrypted although the connection was by
// then: OpenSSL's way when it has not yet answered the server's flight in TLS 1.3.
func plainAlert(b []byte) string {
	if len(b) != 7 || b[0] != 21 || b[3] != 0 || b[4] != 2 {
		return ""
	}
	return tls.AlertError(b[6]).Error()
}

// recorder keeps what is read before anything is written, the first flight, and what
// comes in the first read after that.
type recorder struct {
	net.Conn
	flight bytes.Buffer
	second []byte
	over   bool
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	if !r.over {
		r.flight.Write(p[:n])
	} else if r.second == nil {
		r.second = bytes.Clone(p[:n])
	}
	return n, err
}

func (r *recorder) Write(p []byte) (int, error) {
	r.over = true
	return r.Conn.Write(p)
}

// oneByte keeps a buffered reader from taking more than the head.
type oneByte struct{ io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.Reader.Read(p[:1]) }

// untrusted signs a leaf for target with an authority that nobody has heard of.
func untrusted() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nobody's root"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{target},
		NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
