package mitm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"syscall"
)

// errWantsCertificate is an origin that ended a connection on which it had asked
// for a client certificate and got none.
var errWantsCertificate = errors.New("the origin wants a client certificate, and no certificate_file of upstream.hosts satisfies it")

// wanted notes that the connection a request opened was asked for a certificate
// that larder does not have. In TLS 1.3 the origin's refusal comes when the
// handshake is over for the client, and net/http's HTTP/2 loses it on the way.
type wanted struct{ atomic.Bool }

type wantedKey struct{}

// withWanted returns the request with a note that clientCertificate will find:
// handshakes have the values of the context of the request that they are for.
func withWanted(r *http.Request) (*http.Request, *wanted) {
	w := new(wanted)
	return r.WithContext(context.WithValue(r.Context(), wantedKey{}, w)), w
}

// clientCertificate implements tls.Config.GetClientCertificate.
func (m *material) clientCertificate(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if m.certificate != nil && info.SupportsCertificate(m.certificate) == nil {
		return m.certificate, nil
	}
	if w, ok := info.Context().Value(wantedKey{}).(*wanted); ok {
		w.Store(true)
	}
	return new(tls.Certificate), nil // none, in crypto/tls's words
}

// explain names what the origin wanted where an error may come of that: an alert, or
// in its place whatever of the end of the connection was seen first.
func (w *wanted) explain(err error) error {
	if !w.Load() {
		return err
	}
	_, alert := alertReason(err)
	_, reset := errno("", syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED)(err)
	_, ended := terminated(err)
	lost := neverEstablished(err) || errors.Is(err, io.ErrUnexpectedEOF)
	if alert || reset || ended || lost {
		return fmt.Errorf("%w: %w", errWantsCertificate, err)
	}
	return err
}
