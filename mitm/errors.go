package mitm

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/dunglas/httpsfv"

	"larder/ca"
	"larder/cache"
	"larder/cache/integrity"
)

// failure is everything that larder says about an error: to the client as
// status, Proxy-Status (RFC 9209) and text, to the operator as log level and
// metric label.
type failure struct {
	Status int
	// Type is the Proxy-Status error type of RFC 9209, Section 2.3.
	Type string
	// Label is the value of the metric label reason: a bounded set.
	Label string
	Level slog.Level
	// Reason is one clause for a person.
	Reason string
	// NextHop and ReceivedStatus are the parameters of Proxy-Status (RFC 9209,
	// Sections 2.1.2 and 2.1.5) that name a parent proxy and what it answered.
	NextHop        string
	ReceivedStatus int
	// Challenges are the values of Proxy-Authenticate.
	Challenges []string
}

// deniedError is a refusal by policy.
type deniedError struct{ rule string }

func (e *deniedError) Error() string {
	if e.rule == "" {
		return "denied: no rule of the policy allows it, and its default is deny"
	}
	return fmt.Sprintf("denied by rule %q of the policy", e.rule)
}

// errOpaque is a refusal of bytes that may be a request which the policy denies.
var errOpaque = errors.New("denied: what the client sent is neither TLS nor HTTP, and the policy denies some requests to this host")

// misdirectedError is a request for another authority than the one that its
// connection was opened for, or on a connection whose server name is another's (RFC
// 9110, Section 15.5.20).
type misdirectedError struct{ got, want, what string }

func (e *misdirectedError) Error() string {
	return fmt.Sprintf("%s %q on a connection that was opened for %s", e.what, e.got, e.want)
}

// requestError is a request that larder does not understand, or that could be
// understood in two ways.
type requestError struct{ err error }

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

// handshakeError is a TLS handshake with a client that failed. It never reaches
// a client as an answer; the row is for log and metrics.
type handshakeError struct {
	err    error
	reason string // for which it is distrust, "" if it is not
}

func (e *handshakeError) Error() string {
	switch e.reason {
	case "":
	case ReasonIncompatible:
		return "the client has no version or cipher of TLS in common with larder"
	case ReasonClosedAfterCertificate, ReasonClosedAfterHandshake, ReasonNoAnswer:
		return "the client went when it had larder's certificate (" + e.reason + "); does it trust the root of `larder env`? `larder doctor` says more"
	default:
		return "the client refused larder's certificate (" + e.reason + "); does it trust the root of `larder env`? `larder doctor` says more"
	}
	return "TLS handshake with the client: " + e.err.Error()
}

func (e *handshakeError) Unwrap() error { return e.err }

const (
	// shutdownLabel marks answers after which the connection ends.
	shutdownLabel = "shutdown"
	// deniedType is the Proxy-Status error of what is refused as it was configured;
	// deniedLabel marks those refusals of them that are the policy's.
	deniedType  = "http_request_denied"
	deniedLabel = "denied"
	// busyLabel marks answers to try again after.
	busyLabel = "credentials_busy"
	// badRequestLabel marks answers to what was not understood.
	badRequestLabel = "bad_request"
	// digestLabel marks what is not what its registry says it is.
	digestLabel = "digest"
	// ledgerLabel marks what is not what was first seen under its URL.
	ledgerLabel = "ledger"
	// offlineLabel marks those that Cache-Status speaks of (RFC 9211).
	offlineLabel = "offline"
)

// ErrOffline is the refusal to ask upstream for anything.
var ErrOffline = errors.New("larder is offline and asks no upstream")

var (
	errStopping = errors.New("larder is shutting down")
	errUpgrade  = errors.New("the origin switched to a protocol that was not asked for")
)

// failureRow is one row of the table. Where match returns a text it becomes the
// reason, else the error's own text does.
type failureRow struct {
	match  func(error) (reason string, ok bool)
	status int
	kind   string
	label  string
	level  slog.Level
}

// failureTable turns errors into answers: first match wins. Own failures are
// 502 and 504 and never 404 or 410, which several package managers take for
// "try the next registry".
func failureTable() []failureRow {
	const info, warn, bad = slog.LevelInfo, slog.LevelWarn, slog.LevelError
	return []failureRow{
		{as[*panicError], 502, "proxy_internal_error", "panic", bad},
		{as[*deniedError], 403, deniedType, deniedLabel, info},
		{as[*curatedError], 403, deniedType, deniedLabel, info},
		{as[*indexError], 502, "http_protocol_error", "index", warn},
		{is(errIndexMemory), 503, "proxy_internal_response", "index_memory", warn},
		{is(errOpaque, errUnnamed), 403, deniedType, deniedLabel, info},
		{as[*elsewhereError], 403, deniedType, deniedLabel, warn},
		{unasked, 407, deniedType, "unauthenticated", info},
		{as[*unauthenticatedError], 407, deniedType, "credentials", warn},
		{is(errNoCertificate, errNoPlace), 403, deniedType, "credentials", info},
		{is(errTooMany), 429, deniedType, "client_limit", warn},
		{as[*busyError], 503, "proxy_internal_response", busyLabel, warn},
		{as[*misdirectedError], 421, "http_request_error", "misdirected", warn},
		{is(errProtocol), 501, "http_request_error", badRequestLabel, info}, // RFC 9220, Section 3
		{as[*requestError], 400, "http_request_error", badRequestLabel, info},
		{as[*ca.NameError], 400, "http_request_error", "name", info},
		{as[*ca.LimitError], 429, deniedType, "new_names", warn},
		{as[*handshakeError], 400, "tls_alert_received", "client_handshake", info}, // distrust has a line of its own
		{is(errStopping), 503, "proxy_internal_response", shutdownLabel, info},
		{stalled, 504, "connection_read_timeout", "read_timeout", warn},
		{canceled, 499, "connection_terminated", "client_gone", info},
		{is(ErrOffline), 504, "destination_unavailable", offlineLabel, info},
		{changedSinceFirst, 502, "http_protocol_error", ledgerLabel, bad},
		{as[*cache.MismatchError], 502, "http_protocol_error", digestLabel, bad},
		{is(cache.ErrStoreBroken), 503, "proxy_internal_error", "store", warn},
		{is(ErrLoop), 502, "proxy_loop_detected", "loop", warn},
		{as[*placeError], 503, "connection_limit_reached", "host_connections", warn},
		{as[*AddressError], 502, "destination_ip_prohibited", "address", warn},

		{is(errWantsCertificate), 502, "tls_alert_received", "tls_alert", warn},
		{certificateReason, 502, "tls_certificate_error", "certificate", warn},
		{alertReason, 502, "tls_alert_received", "tls_alert", warn},
		{notTLS, 502, "tls_protocol_error", "tls", warn},
		{text("tls: handshake", "net/http: TLS handshake timeout"), 504, "connection_timeout", "tls_timeout", warn},
		{text("tls: "), 502, "tls_protocol_error", "tls", warn},

		{dnsReason(isDNSTimeout, "looking up the host name timed out"), 504, "dns_timeout", "dns_timeout", warn},
		{dnsReason(isDNSNotFound, "the host name does not exist"), 502, "dns_error", "dns", info},
		{dnsReason(nil, "looking up the host name failed"), 502, "dns_error", "dns", warn},

		{errno("connection refused", syscall.ECONNREFUSED), 502, "connection_refused", "refused", warn},
		{
			errno("no route to the address", syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EADDRNOTAVAIL),
			502, "destination_ip_unroutable", "unroutable", warn,
		},
		{text("timeout awaiting response headers"), 504, "http_response_timeout", "response_timeout", warn},
		{dialTimeout, 504, "connection_timeout", "connect_timeout", warn},
		{timeout, 504, "connection_read_timeout", "read_timeout", warn},

		{text("response headers exceeded", "response header list larger"), 502, "http_response_header_section_size", "response_header", warn},
		{malformed, 502, "http_protocol_error", "protocol", warn},
		{is(errUpgrade), 502, "http_upgrade_failed", "upgrade", warn},
		{is(io.ErrUnexpectedEOF), 502, "http_response_incomplete", "incomplete", warn},
		{
			errno("the connection was reset", syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED),
			502, "connection_terminated", "terminated", warn,
		},
		{terminated, 502, "connection_terminated", "terminated", warn},
		{text("http2: "), 502, "http_protocol_error", "protocol", warn},
		{is(syscall.EMFILE, syscall.ENFILE), 502, "connection_limit_reached", "files", bad},
	}
}

// describe looks an error up in the table. What is not there is an internal
// error and visible as such.
func describe(err error) failure {
	if f, ok := parentFailure(err); ok {
		return f
	}
	for _, row := range failureTable() {
		if reason, ok := row.match(err); ok {
			if reason == "" {
				reason = err.Error()
			}
			f := failure{Status: row.status, Type: row.kind, Label: row.label, Level: row.level, Reason: reason}
			if e, ok := errors.AsType[*unauthenticatedError](err); ok {
				f.Challenges = e.challenges
			}
			return f
		}
	}
	return failure{
		Status: http.StatusBadGateway, Type: "proxy_internal_error", Label: "internal",
		Level: slog.LevelError, Reason: err.Error(),
	}
}

// proxyStatus is the Proxy-Status field value (RFC 9209, Section 2).
func (f failure) proxyStatus() string {
	params := httpsfv.NewParams()
	params.Add("error", httpsfv.Token(f.Type))
	if f.NextHop != "" {
		params.Add("next-hop", printable(f.NextHop))
	}
	if f.ReceivedStatus != 0 {
		params.Add("received-status", int64(f.ReceivedStatus))
	}
	params.Add("details", printable(f.Reason))
	v, err := httpsfv.Marshal(httpsfv.List{httpsfv.Item{Value: httpsfv.Token("larder"), Params: params}})
	if err != nil {
		return "larder; error=" + f.Type
	}
	return v
}

// printable replaces what a structured string may not hold (RFC 9651, Section
// 3.3.3): an error's text may quote bytes of the other side.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, s)
}

// writeFailure answers with a short text that names the target and the reason.
// A package manager that keeps what it is given must not take it for content,
// nor any cache.
func writeFailure(w http.ResponseWriter, r *http.Request, f failure, target string) {
	body := fmt.Sprintf("larder: %s %s: %s\n", printable(r.Method), printable(target), printable(f.Reason))
	h := w.Header()
	clear(h)
	if f.Label == shutdownLabel || f.Label == badRequestLabel && r.ProtoMajor == 1 {
		h.Set("Connection", "close") // where a bad request ends, nobody knows
	}
	if f.Label == busyLabel {
		h.Set("Retry-After", "5")
	}
	for _, challenge := range f.Challenges {
		h.Add("Proxy-Authenticate", challenge)
	}
	switch f.Label {
	case offlineLabel:
		h.Set("Cache-Status", "larder; detail=offline")
	case digestLabel:
		h.Set("Cache-Status", "larder; fwd=miss; detail=digest-mismatch")
	case ledgerLabel:
		h.Set("Cache-Status", "larder; fwd=miss; detail=ledger-mismatch")
	}
	h.Set("Proxy-Status", f.proxyStatus())
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(f.Status)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, body) // the client's connection says so next
	}
}

// unasked recognises a first request, after which a client knows that it has to send
// credentials.
func unasked(err error) (string, bool) {
	if !errors.Is(err, errNoCredentials) {
		return "", false
	}
	return as[*unauthenticatedError](err)
}

// changedSinceFirst recognises a body that the ledger has refused.
func changedSinceFirst(err error) (string, bool) {
	m, ok := errors.AsType[*cache.MismatchError](err)
	return "", ok && m.Source == integrity.FromLedger
}

func as[T error](err error) (string, bool) {
	e, ok := errors.AsType[T](err)
	if !ok {
		return "", false
	}
	return e.Error(), true
}

func is(targets ...error) func(error) (string, bool) {
	return func(err error) (string, bool) {
		for _, t := range targets {
			if errors.Is(err, t) {
				return "", true
			}
		}
		return "", false
	}
}

// text recognises errors that the standard library gives no type.
func text(parts ...string) func(error) (string, bool) {
	return func(err error) (string, bool) {
		for _, p := range parts {
			if strings.Contains(err.Error(), p) {
				return "", true
			}
		}
		return "", false
	}
}

func errno(reason string, numbers ...syscall.Errno) func(error) (string, bool) {
	return func(err error) (string, bool) {
		for _, n := range numbers {
			if errors.Is(err, n) {
				return reason + addressOf(err), true
			}
		}
		return "", false
	}
}

// addressOf gives " (1.2.3.4:443)" where the error knows what was dialled.
func addressOf(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" && op.Addr != nil {
		return " (" + op.Addr.String() + ")"
	}
	return ""
}

// certificateReason says in a clause what is wrong with the certificate.
func certificateReason(err error) (string, bool) {
	if e, ok := errors.AsType[*certificateError](err); ok {
		return e.Error(), true
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return "certificate is for another name: " + e.Error(), true
	}
	if e, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		if c := e.Cert; c != nil && !c.IsCA && bytes.Equal(c.RawIssuer, c.RawSubject) &&
			c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
			return "certificate is self-signed", true
		}
		if _, algorithm, ok := strings.Cut(e.Error(), "insecure algorithm "); ok {
			algorithm, _, _ = strings.Cut(algorithm, `"`)
			return "certificate is signed with " + algorithm + ", which is not secure, or one above it is", true
		}
		return "certificate signed by an unknown authority: " + e.Error(), true
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired {
			return validityReason(e), true
		}
		return "certificate is invalid: " + e.Error(), true
	}
	if _, ok := errors.AsType[x509.UnhandledCriticalExtension](err); ok {
		return "certificate has a critical extension that is not understood", true
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "certificate is invalid: " + e.Err.Error(), true
	}
	if strings.Contains(err.Error(), "tls: failed to parse certificate from server") {
		return "certificate cannot be read: " + err.Error(), true
	}
	return "", false
}

func validityReason(e x509.CertificateInvalidError) string {
	if c := e.Cert; c != nil {
		if now := time.Now(); now.Before(c.NotBefore) {
			return "certificate is not valid before " + c.NotBefore.UTC().Format(time.RFC3339)
		}
		return "certificate expired on " + c.NotAfter.UTC().Format(time.RFC3339)
	}
	return "certificate has expired or is not yet valid"
}

// alertReason recognises an alert that the other side sent; crypto/tls marks it
// by the operation's name alone.
func alertReason(err error) (string, bool) {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return "the origin ended the TLS handshake: " + op.Err.Error(), true
	}
	return "", false
}

func notTLS(err error) (string, bool) {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return "the origin does not speak TLS on this port", true
	}
	return "", false
}

func dnsReason(which func(*net.DNSError) bool, reason string) func(error) (string, bool) {
	return func(err error) (string, bool) {
		e, ok := errors.AsType[*net.DNSError](err)
		if !ok || which != nil && !which(e) {
			return "", false
		}
		return reason + " (" + e.Name + ": " + e.Err + ")", true
	}
}

func isDNSTimeout(e *net.DNSError) bool  { return e.IsTimeout }
func isDNSNotFound(e *net.DNSError) bool { return e.IsNotFound }

func dialTimeout(err error) (string, bool) {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" && op.Timeout() {
		return "connecting timed out" + addressOf(err), true
	}
	return "", false
}

func canceled(err error) (string, bool) {
	return "the client went away", errors.Is(err, context.Canceled) || errors.Is(err, http.ErrAbortHandler)
}

func stalled(err error) (string, bool) {
	return errStalled.Error(), errors.Is(err, errStalled)
}

func timeout(err error) (string, bool) {
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "the origin stopped answering", true
	}
	return "the origin stopped answering", errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

func malformed(err error) (string, bool) {
	if e, ok := errors.AsType[textproto.ProtocolError](err); ok {
		return "the origin's answer is not HTTP: " + e.Error(), true
	}
	if strings.Contains(err.Error(), "malformed HTTP") || strings.Contains(err.Error(), "malformed MIME") ||
		strings.Contains(err.Error(), "unsupported transfer encoding") {
		return "the origin's answer is not HTTP: " + err.Error(), true
	}
	return "", false
}

func terminated(err error) (string, bool) {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "server closed idle connection") {
		return "the origin closed the connection without an answer", true
	}
	return "", false
}
