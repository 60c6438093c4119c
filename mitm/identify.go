package mitm

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/netip"

	"larder/policy"
)

// Authenticator says who a client is by what it sends as Proxy-Authorization.
type Authenticator interface {
	// Authenticate returns the user of a field value, which came from the address. An
	// error means that it is nobody's, or, with a method Temporary() bool that returns
	// true, that there was no time to find out. It is called for every request to the
	// proxy and every CONNECT that carries credentials, concurrently, may take its
	// time, and keeps nothing of the field.
	Authenticate(ctx context.Context, client netip.Addr, field string) (user string, err error)
	// Challenges are the values of Proxy-Authenticate that ask for credentials. None:
	// there is nothing to ask for.
	Challenges() []string
}

// Access says who may use the proxy at all. Which user may do what is the policy's.
type Access struct {
	// Authenticator of Proxy-Authorization. nil: the field is thrown away unread.
	Authenticator Authenticator
	// Required refuses requests of clients that no user is known for.
	Required bool
	// CertificateUser maps a client certificate that a listener's TLS has verified to
	// a user. nil: certificates name nobody.
	CertificateUser func(*x509.Certificate) (string, error)
}

// unauthenticatedError is a request whose credentials are missing or wrong.
type unauthenticatedError struct {
	why        error
	challenges []string
}

func (e *unauthenticatedError) Error() string { return e.why.Error() }
func (e *unauthenticatedError) Unwrap() error { return e.why }

var (
	errNoCredentials = errors.New("the proxy asks for credentials, and the request has none")
	errNoCertificate = errors.New("the proxy asks for a client certificate that names a user")
	errTwoFields     = errors.New("more than one Proxy-Authorization")
)

// identify takes the credentials off a request to the proxy, so that nothing behind
// it ever sees them, and notes whose they are. Those of a request count more than the
// certificate of its connection, which may be one for a whole machine.
func (a *Access) identify(r *http.Request, x *exchange) error {
	fields := r.Header["Proxy-Authorization"]
	delete(r.Header, "Proxy-Authorization")
	if a.Authenticator != nil && len(fields) > 0 {
		if len(fields) > 1 {
			return &requestError{errTwoFields}
		}
		user, err := a.Authenticator.Authenticate(r.Context(), x.who.Addr, fields[0])
		if err != nil {
			return a.refuse(err)
		}
		x.who.User, x.User = user, user
		return nil
	}
	if a.Required && x.who.User == "" {
		return a.refuse(nil)
	}
	return nil
}

// refuse makes an error of credentials that are wrong, or missing where err is nil.
func (a *Access) refuse(err error) error {
	if busy, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err); ok && busy.Temporary() {
		return &busyError{err}
	}
	var challenges []string
	if a.Authenticator != nil {
		challenges = a.Authenticator.Challenges()
	}
	switch {
	case err != nil:
		return &unauthenticatedError{err, challenges}
	case len(challenges) > 0:
		return &unauthenticatedError{errNoCredentials, challenges}
	}
	return errNoCertificate
}

// busyError is the refusal to verify credentials just now.
type busyError struct{ err error }

func (e *busyError) Error() string { return e.err.Error() }
func (e *busyError) Unwrap() error { return e.err }

// certified notes the user of a connection whose TLS a listener has opened and whose
// client certificate it has verified. Call it before the connection is served.
func (c *clientConn) certified(certificate *x509.Certificate) error {
	access := &c.server.rules.Load().access
	if access.CertificateUser == nil {
		return nil
	}
	user, err := access.CertificateUser(certificate)
	if err != nil {
		return err
	}
	c.asker = policy.Client{Addr: c.asker.Addr, User: user}
	return nil
}
