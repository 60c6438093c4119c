package mitm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
)

// parentError is a failure of a parent proxy, or of the way to it. It names the
// parent without credentials.
type parentError struct {
	parent  string // scheme://host:port
	address string // host:port
	status  int    // of its answer; 0: err
	err     error
}

func (e *parentError) Error() string {
	if e.status != 0 {
		return fmt.Sprintf("parent proxy %s answered %d %s", e.parent, e.status, http.StatusText(e.status))
	}
	return fmt.Sprintf("parent proxy %s: %v", e.parent, e.err)
}

func (e *parentError) Unwrap() error { return e.err }

// failed makes a parentError of what went wrong with p, once.
func (p *parent) failed(err error) error {
	if _, ok := errors.AsType[*parentError](err); ok || err == nil {
		return err
	}
	return &parentError{parent: p.String(), address: p.Proxy.Host, err: err}
}

// parentFailure describes an error that is a parent's. What the client or a stall
// did comes first as everywhere.
func parentFailure(err error) (failure, bool) {
	e, ok := errors.AsType[*parentError](err)
	if !ok || errors.Is(err, context.Canceled) || errors.Is(err, errStalled) {
		return failure{}, false
	}
	f := e.describe()
	f.NextHop, f.ReceivedStatus = e.address, e.status
	return f, true
}

func (e *parentError) describe() failure {
	f := failure{Status: http.StatusBadGateway, Type: "destination_unavailable", Label: "parent", Level: slog.LevelWarn, Reason: e.Error()}
	switch {
	case e.status == http.StatusProxyAuthRequired:
		f.Type = "proxy_configuration_error"
		f.Reason += ": its credentials_file is missing or out of date"
	case e.status == http.StatusGatewayTimeout:
		f.Status, f.Type = http.StatusGatewayTimeout, "connection_timeout"
	case e.status != 0:
	case e.socks(&f):
	default:
		f = describe(e.err)
		f.Reason = fmt.Sprintf("parent proxy %s: %s", e.parent, strings.Replace(f.Reason, "the origin", "it", 1))
	}
	return f
}

// socks recognises answers to SOCKS requests (RFC 1928, Section 6; RFC 1929),
// which golang.org/x/net gives as text.
func (e *parentError) socks(f *failure) bool {
	text := e.err.Error()
	if !strings.HasPrefix(text, "socks connect ") {
		return false
	}
	for _, row := range []struct{ part, kind string }{
		{"username/password authentication failed", "proxy_configuration_error"},
		{"no acceptable authentication methods", "proxy_configuration_error"},
		{"unknown error connection refused", "connection_refused"},
		{"unknown error network unreachable", "destination_ip_unroutable"},
		{"unknown error host unreachable", "destination_ip_unroutable"},
		{"unknown error ", "destination_unavailable"},
		{"unexpected protocol version", "http_protocol_error"},
	} {
		if strings.Contains(text, row.part) {
			f.Type = row.kind
			return true
		}
	}
	if errors.Is(e.err, io.EOF) {
		f.Type = "connection_terminated"
		return true
	}
	return false
}
