package mitm

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// Reasons for which a client is taken not to trust larder's certificate: the alerts
// that say so, by their names in RFC 8446, Section 6.2, and what clients do instead.
const (
	ReasonUnknownCA              = "unknown_ca"
	ReasonBadCertificate         = "bad_certificate"
	ReasonUnsupportedCertificate = "unsupported_certificate"
	ReasonCertificateRevoked     = "certificate_revoked"
	ReasonCertificateExpired     = "certificate_expired"
	ReasonCertificateUnknown     = "certificate_unknown"
	ReasonBadStatus              = "bad_certificate_status_response" // no stapled OCSP
	// ReasonAlert: another alert, after the certificate. Checks of a program's own,
	// such as of a pinned key, end so.
	ReasonAlert = "alert"
	// ReasonClosedAfterCertificate: it closed the connection, and said nothing.
	ReasonClosedAfterCertificate = "closed_after_certificate"
	// ReasonClosedAfterHandshake: so it did once the handshake was over, without
	// having sent a byte. Programs that verify only then do.
	ReasonClosedAfterHandshake = "closed_after_handshake"
	// ReasonNoAnswer: nothing came after the certificate until time was up.
	ReasonNoAnswer = "no_answer"
	// ReasonIncompatible is no distrust: the client has no version or cipher of TLS
	// in common with larder.
	ReasonIncompatible = "incompatible"
)

// Reasons are all of them.
func Reasons() []string {
	return []string{
		ReasonUnknownCA, ReasonBadCertificate, ReasonUnsupportedCertificate, ReasonCertificateRevoked, ReasonCertificateExpired,
		ReasonCertificateUnknown, ReasonBadStatus, ReasonAlert, ReasonClosedAfterCertificate, ReasonClosedAfterHandshake, ReasonNoAnswer,
		ReasonIncompatible,
	}
}

// ending is how a client's TLS ended before it came to anything.
type ending struct {
	verdict verdict
	reason  string // for which it is distrust, if it is
}

// verdict is how sure it is that a client does not trust a certificate.
type verdict uint8

const (
	// failed is none of the others: larder itself has, or time was up before there was
	// anything to trust.
	failed verdict = iota
	// left: the client went away, which clients do for many reasons.
	left
	// incompatible: nothing was found that both sides speak.
	incompatible
	// suspicion: it looks like distrust, and if it happens again it is.
	suspicion
	// quietly: it is what programs do that go without an alert, and suspicion of any
	// other.
	quietly
	// distrust: the client said so.
	distrust
)

// certificateAlerts are the alerts that are about a certificate.
func certificateAlerts() map[uint8]string {
	return map[uint8]string{
		42: ReasonBadCertificate, 43: ReasonUnsupportedCertificate, 44: ReasonCertificateRevoked, 45: ReasonCertificateExpired,
		46: ReasonCertificateUnknown, 48: ReasonUnknownCA, 113: ReasonBadStatus,
	}
}

const (
	alertCloseNotify     = 0
	alertProtocolVersion = 70
	alertInsufficient    = 71 // insufficient_security
	alertUserCanceled    = 90
)

// handshakeEnding classifies an error of a handshake. shown: a certificate was sent
// before it. alert is what the client has said in clear, if it has.
func handshakeEnding(err error, shown bool, alert *uint8) ending {
	if alert == nil {
		alert = alertIn(err)
	}
	switch {
	case alert != nil:
		return alertEnding(*alert, shown)
	case offersNothing(err):
		return ending{incompatible, ReasonIncompatible}
	case !shown && hasLeft(err), isWrite(err):
		return ending{verdict: left}
	case !shown:
		return ending{verdict: failed}
	case hasLeft(err):
		return ending{quietly, ReasonClosedAfterCertificate}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return ending{suspicion, ReasonNoAnswer}
	}
	return ending{verdict: failed}
}

// openedEnding classifies how a connection ended whose handshake had succeeded and on
// which nothing had come. err is of reading from it.
func openedEnding(err error) ending {
	if alert := alertIn(err); alert != nil {
		return alertEnding(*alert, true)
	}
	if hasLeft(err) {
		return ending{quietly, ReasonClosedAfterHandshake}
	}
	return ending{verdict: failed} // closed here, or idle
}

func alertEnding(alert uint8, shown bool) ending {
	switch reason, about := certificateAlerts()[alert]; {
	case alert == alertProtocolVersion, alert == alertInsufficient:
		return ending{incompatible, ReasonIncompatible}
	case !shown:
		return ending{verdict: failed}
	case alert == alertCloseNotify, alert == alertUserCanceled:
		return ending{verdict: left}
	case about:
		return ending{distrust, reason}
	}
	return ending{suspicion, ReasonAlert}
}

// alertIn returns the alert that the other side sent. crypto/tls tells by the
// operation's name that it is one, and which by its text alone.
func alertIn(err error) *uint8 {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return nil
	}
	for n := range 256 {
		if tls.AlertError(n).Error() == op.Err.Error() {
			return new(uint8(n))
		}
	}
	return new(uint8(255))
}

// hasLeft reports whether the other side has closed, cleanly or not.
func hasLeft(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// isWrite: the client had left before it could have read what was sent.
func isWrite(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "write"
}

// offersNothing recognises clients with no version or cipher in common.
func offersNothing(err error) bool {
	return strings.Contains(err.Error(), "tls: client offered only unsupported versions") ||
		strings.Contains(err.Error(), "tls: no cipher suite supported by both")
}
