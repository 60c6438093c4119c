package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
)

// Options name the files of credentials; "" is none.
type Options struct {
	// PasswordsFile has lines of NAME:HASH.
	PasswordsFile string
	// TokensFile has lines of NAME:TOKEN or NAME:sha256:DIGEST.
	TokensFile string
}

var (
	// ErrRefused says that credentials are not those of any user. Which part of
	// them is wrong it does not say.
	ErrRefused = errors.New("the credentials for the proxy are wrong")
	// ErrBusy says that credentials could not be verified for want of time. It has a
	// method Temporary() bool that returns true.
	ErrBusy error = busyError{}
)

type busyError struct{}

func (busyError) Error() string {
	return "too many credentials for the proxy are being verified; try again"
}
func (busyError) Temporary() bool { return true }

// Authenticator verifies credentials by what the files said when they were read. It
// is safe for concurrent use.
type Authenticator struct {
	*verifier
	book *book
}

// verifier is what all that were read one after the other have in common.
type verifier struct {
	key        []byte // of every keyed hash, made anew at each start
	remembered *memory
	queue      *queue
	flights    singleflight.Group
	metrics    *metrics
}

// book is what the files say at one moment.
type book struct {
	passwords passwords
	tokens    tokens
}

// digest is a keyed hash.
type digest [sha256.Size]byte

// Open reads the files. r gets the collectors of this package unless it is nil, or
// there is an error.
func Open(o Options, r prometheus.Registerer) (*Authenticator, error) {
	v := &verifier{key: make([]byte, 32), remembered: newMemory(), queue: newQueue()}
	_, _ = rand.Read(v.key) // never fails
	a, err := v.read(o)
	if err != nil {
		return nil, err
	}
	if v.metrics, err = newMetrics(r); err != nil {
		return nil, err
	}
	return a, nil
}

// Reread reads the files, which may be others than before, for an Authenticator that
// takes the place of this one, when its owner says so: credentials and the policy
// for their users can be replaced in one step. What was verified under a hash that
// is still the user's stays verified.
func (a *Authenticator) Reread(o Options) (*Authenticator, error) { return a.read(o) }

func (v *verifier) read(o Options) (*Authenticator, error) {
	p, err := readPasswords(o.PasswordsFile)
	if err != nil {
		return nil, err
	}
	t, err := v.readTokens(o.TokensFile)
	if err != nil {
		return nil, err
	}
	return &Authenticator{v, &book{p, t}}, nil
}

// Challenges are the values of Proxy-Authenticate that ask for credentials of the
// kinds that there are; nil if no files are.
func (a *Authenticator) Challenges() []string {
	b := a.book
	var all []string
	if len(b.passwords.all) > 0 || len(b.tokens) > 0 {
		all = append(all, `Basic realm="larder", charset="UTF-8"`)
	}
	if len(b.tokens) > 0 {
		all = append(all, `Bearer realm="larder"`)
	}
	return all
}

// Authenticate returns the user whose credentials are in a Proxy-Authorization
// field value. client is the address that they come from, whose share of the queue
// is bounded. Errors are ErrRefused, ErrBusy, and that of ctx.
func (a *Authenticator) Authenticate(ctx context.Context, client netip.Addr, field string) (user string, err error) {
	user, result, err := a.authenticate(ctx, client, field)
	a.metrics.attempts.WithLabelValues(result).Inc()
	return user, err
}

func (a *Authenticator) authenticate(ctx context.Context, client netip.Addr, field string) (user, result string, err error) {
	scheme, credentials, _ := strings.Cut(field, " ")
	credentials = strings.Trim(credentials, " ")
	b := a.book
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		if user, ok := a.byToken(b, credentials); ok {
			return user, resultToken, nil
		}
	case strings.EqualFold(scheme, "Basic"):
		if user, password, ok := readBasic(credentials); ok {
			return a.byPassword(ctx, client, b, user, password)
		}
	}
	return "", resultRefused, ErrRefused
}

func (a *Authenticator) byToken(b *book, token string) (user string, ok bool) {
	if len(token) > maxToken {
		return "", false
	}
	sum := sha256.Sum256([]byte(token))
	user, ok = b.tokens[a.keyed("token", string(sum[:]))]
	return user, ok
}

// readBasic reads user-id and password (RFC 7617, section 2).
func readBasic(credentials string) (user, password string, ok bool) {
	if len(credentials) > 2*(maxUser+maxPassword) {
		return "", "", false
	}
	text, err := base64.StdEncoding.DecodeString(credentials)
	if err != nil || !utf8.Valid(text) {
		return "", "", false
	}
	user, password, ok = strings.Cut(string(text), ":")
	return user, password, ok && validUser(user) && password != "" && len(password) <= maxPassword
}

// byPassword takes a user's token for a password, since most clients can only send
// Basic.
func (a *Authenticator) byPassword(ctx context.Context, client netip.Addr, b *book, user, password string) (_, result string, err error) {
	if owner, ok := a.byToken(b, password); ok && owner == user {
		return user, resultToken, nil
	}
	if len(b.passwords.all) == 0 {
		return "", resultRefused, ErrRefused
	}
	// The hash is part of the key: what was verified under another is not known.
	key := a.keyed("password", user, b.passwords.text[user], password)
	if good, known := a.remembered.recall(key); known {
		if !good {
			return "", resultRefused, ErrRefused
		}
		return user, resultRemembered, nil
	}
	good, err := a.verify(ctx, client, b, user, password, key)
	switch {
	case err != nil:
		return "", resultBusy, err
	case !good:
		return "", resultRefused, ErrRefused
	}
	return user, resultVerified, nil
}

// verify spends the processor's time, once for the same credentials at the same
// time: the connections of one client come in dozens.
func (a *Authenticator) verify(ctx context.Context, client netip.Addr, b *book, user, password string, key digest) (bool, error) {
	hash, known := b.passwords.standIn(user, a.number(user))
	v, err, _ := a.flights.Do(string(key[:]), func() (any, error) {
		// Detached: others wait for the same, and their client is still there.
		leave, err := a.queue.enter(context.WithoutCancel(ctx), client)
		if err != nil {
			return false, err
		}
		defer leave()
		good := hash.matches(password) && known
		a.remembered.keep(key, good)
		return good, nil
	})
	if err != nil {
		return false, err
	}
	return v.(bool), nil
}

// number is always the same for a name, and nobody can tell which.
func (v *verifier) number(user string) uint64 {
	d := v.keyed("name", user)
	return binary.LittleEndian.Uint64(d[:])
}

// keyed hashes parts under the key of this process, each with its length.
func (v *verifier) keyed(parts ...string) (d digest) {
	h := hmac.New(sha256.New, v.key)
	var length [8]byte
	for _, p := range parts {
		binary.LittleEndian.PutUint64(length[:], uint64(len(p)))
		_, _ = h.Write(length[:]) // a hash never fails
		_, _ = h.Write([]byte(p))
	}
	h.Sum(d[:0])
	return d
}

// Results are the values of the metric label result.
const (
	resultVerified   = "verified"
	resultRemembered = "remembered"
	resultToken      = "token"
	resultRefused    = "refused"
	resultBusy       = "busy"
)

type metrics struct{ attempts *prometheus.CounterVec }

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "larder_auth_attempts_total",
		Help: "Credentials for the proxy, by result: verified, remembered, token, refused, or busy.",
	}, []string{"result"})}
	if r != nil {
		if err := r.Register(m.attempts); err != nil {
			return nil, fmt.Errorf("register metrics of proxy authentication: %w", err)
		}
	}
	return m, nil
}
