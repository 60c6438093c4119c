package cache

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"larder/cache/integrity"
	"larder/ledger"
)

// LedgerURL is the target URI as the ledger has it: in the normal form of keys, without
// user information and the parameters that the rule drops. What remains of a query may
// hold a secret, and the ledger is kept for good and exported: conceal stands for it.
func LedgerURL(u *url.URL, rule *Rule, conceal func(string) string) string {
	scheme := strings.ToLower(u.Scheme)
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port := u.Port(); port != "" && port != defaultPort(scheme) {
		host += ":" + port
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	query := u.RawQuery
	if drop := rule.dropped(); len(drop) > 0 {
		query = withoutParameters(query, drop)
	}
	if query != "" {
		query = "?hmac-sha256=" + conceal(normalEscapes(query))
	}
	return scheme + "://" + host + normalEscapes(path) + query
}

// ledgered is what the ledger holds a body to.
type ledgered struct {
	seen ledger.Seen
	// known: the URL was seen before.
	known bool
}

// ledgered returns what a 200 to be stored under rule is called in the ledger, nil where
// it is not written down. Responses of one URL are told apart by what selects them, but
// for content codings: it is the content that is written down.
func (c *Cache) ledgered(rule *Rule, target *url.URL, status int, set []string, sent, response http.Header) *ledgered {
	if c.ledger == nil || rule.Ledger == LedgerOff || rule.Mode != Immutable || status != http.StatusOK {
		return nil
	}
	l := &ledgered{seen: ledger.Seen{
		URL: LedgerURL(target, rule, c.ledger.Conceal), Variant: ledgerVariant(rule, set, sent, response), Refuse: rule.Ledger == LedgerRefuse,
	}}
	_, err := c.ledger.Current(l.seen.URL, l.seen.Variant)
	switch {
	case err == nil:
		l.known = true
	case !errors.Is(err, fs.ErrNotExist):
		c.ledgerFailed(c.log, err)
		return nil
	}
	return l
}

// ledgerVariant tells the responses of one URL apart.
func ledgerVariant(rule *Rule, set []string, sent, response http.Header) string {
	var parts []string
	for _, s := range selectorsOf(set, sent) {
		if s.name != "accept-encoding" {
			parts = append(parts, s.name+strings.Replace(s.value, "=", ": ", 1))
		}
	}
	if coding, ok := integrity.Coding(response["Content-Encoding"]); !ok || !integrity.Decodes(coding) {
		parts = append(parts, "content-encoding: "+strings.Join(response["Content-Encoding"], ", "))
	}
	if rule.Partition != "" {
		parts = append(parts, "partition: "+rule.Partition)
	}
	return strings.Join(parts, "; ")
}

// enter compares a body with the ledger, which is told of it when it is the first one.
// The content is known or not; sum is that of the bytes as they were sent. An error, a
// *MismatchError, says that nobody may have it.
func (c *Cache) enter(l *ledgered, content [32]byte, known bool, sum [32]byte, size int64, log *slog.Logger) error {
	if l == nil {
		return nil
	}
	l.seen.SHA256, l.seen.Size = content, size
	if !known {
		if !l.known {
			return nil // not what its coding says: nothing to go by
		}
		l.seen.SHA256 = sum
	}
	e, changed, err := c.ledger.Observe(l.seen)
	switch {
	case errors.Is(err, ledger.ErrFull) || errors.Is(err, ledger.ErrTooLong):
		c.metrics.ledger.WithLabelValues("left-out").Inc()
	case err != nil:
		c.ledgerFailed(log, err)
	}
	switch {
	case !changed && err == nil && e.SHA256 == l.seen.SHA256 && !l.known:
		c.metrics.ledger.WithLabelValues("first").Inc()
	case !changed && err == nil:
		c.metrics.ledger.WithLabelValues("same").Inc()
	}
	if !changed {
		return nil
	}
	want, _ := integrity.NewDigest(integrity.SHA256, inForce(e))
	got, _ := integrity.NewDigest(integrity.SHA256, l.seen.SHA256[:])
	if !l.seen.Refuse {
		c.metrics.ledger.WithLabelValues("warned").Inc()
		log.Warn("the ledger has another digest for this URL", "first", want.String(), "now", got.String(), "seen", e.Time)
		return nil
	}
	c.metrics.ledger.WithLabelValues("refused").Inc()
	log.Error("the ledger has another digest for this URL: refused", "first", want.String(), "now", got.String(), "seen", e.Time)
	return &MismatchError{URL: l.seen.URL, Want: want, Got: got, Source: integrity.FromLedger}
}

func inForce(e ledger.Entry) []byte {
	d := e.InForce()
	return d[:]
}

// ledgerFailed counts and logs that the ledger could not be asked or written to. Requests
// go on without it.
func (c *Cache) ledgerFailed(log *slog.Logger, err error) {
	c.metrics.ledger.WithLabelValues("failed").Inc()
	log.Warn("the ledger failed", "err", err)
}
