package cache

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"larder/cache/integrity"
)

// heldBack is how much of the end of a body waits until the body was found to be the
// right one. What is no longer than that goes out whole or not at all, so that its
// client gets an error that says why.
const heldBack = 64 << 10

// heldEnd is how much waits for a Checker: enough that nobody takes a damaged body for a
// whole one, and so little that it says on its way, as git's progress, is not late.
const heldEnd = 4

// A MismatchError says that a body has not a digest that it should have. It is not
// stored, and whoever has a part of it does not get the rest.
type MismatchError struct {
	// URL without what may be a credential.
	URL string
	// Want is the digest it should have, Source who said so, and Got what it has
	// instead: its SHA-256 where it can have none by that algorithm.
	Want, Got integrity.Digest
	Source    integrity.Source
}

// Error names both digests.
func (e *MismatchError) Error() string {
	if e.Source == integrity.FromLedger {
		return fmt.Sprintf("the body is not what was first seen under this URL: that had %s, this has %s; "+
			"if it is meant to be another one now: larder ledger accept '%s'", e.Want, e.Got, e.URL)
	}
	return fmt.Sprintf("the body is not what the %s says it is: want %s, got %s", e.Source, e.Want, e.Got)
}

// claims lists what is known of the digest of the body of a 200 for target, but for what
// is learnt from indexes and clients.
func (r *Rule) claims(target *url.URL, h http.Header) []integrity.Claim {
	if r.Verify == VerifyOff {
		return nil
	}
	var claims []integrity.Claim
	path := target.EscapedPath()
	for _, p := range r.Digests {
		if d, ok := p.Find(path); ok {
			claims = append(claims, integrity.Claim{Digest: d, Source: integrity.FromURL})
		}
	}
	return append(claims, integrity.HeaderClaims(h)...)
}

// clientClaims lists what a client expects: npm sends the integrity value of its lock
// file, or of the index.
func clientClaims(h http.Header) []integrity.Claim {
	var claims []integrity.Claim
	for _, d := range integrity.SRI(strings.Join(h["Pacote-Integrity"], " ")) {
		claims = append(claims, integrity.Claim{Digest: d, Source: integrity.FromClient})
	}
	return claims
}

// unproved reports whether claims hold nothing by which a rule that requires it could
// verify a body.
func (r *Rule) unproved(claims []integrity.Claim) bool {
	if r.Verify != VerifyRequired {
		return false
	}
	for _, c := range claims {
		if proves(c) {
			return false
		}
	}
	return true
}

// proves reports whether a claim that holds verifies a body. A checksum against
// accidents does not, and neither does what a client expects.
func proves(c integrity.Claim) bool {
	return c.Source != integrity.FromClient && c.Digest.Algorithm() != integrity.CRC32C
}

// newCheck begins to check a body with that header, nil where a rule holds it to nothing.
// With content the digest of its content is made in any case.
func (r *Rule) newCheck(claims []integrity.Claim, h http.Header, content bool) *integrity.Check {
	if r.Verify == VerifyOff {
		claims = nil
		if !content {
			return nil
		}
	}
	coding, ok := integrity.Coding(h["Content-Encoding"])
	if !ok {
		coding = "several"
	}
	return integrity.NewCheck(claims, coding, content)
}

// finding is what checking a body has led to.
type finding struct {
	// verified are the claims that hold and are kept with the response.
	verified []integrity.Claim
	// unstored is a word of Cache-Status that says why the body may go to its clients
	// and not into the store, "" if it may.
	unstored string
	// err, a *MismatchError, says why it may go nowhere.
	err error
}

// settle counts and logs what a check has found, and says what follows. An index of what
// may change is often older than what it speaks of, so there it proves nothing.
func (c *Cache) settle(r integrity.Result, rule *Rule, target *url.URL, log *slog.Logger) finding {
	f := finding{verified: r.Verified}
	for _, claim := range r.Verified {
		c.metrics.digests.WithLabelValues(claim.Source.String(), "verified").Inc()
	}
	for _, claim := range r.Contradicted {
		c.metrics.digests.WithLabelValues(claim.Source.String(), "contradicted").Inc()
		log.Warn("digest contradicted", "source", claim.Source.String(), "said", claim.Digest.String(), "verified", verifiedBy(r.Verified))
	}
	m := r.Mismatch
	if r.Got.IsZero() {
		r.Got, _ = integrity.NewDigest(integrity.SHA256, r.Content[:])
	}
	switch {
	case m == nil && rule.unproved(r.Verified):
		f.unstored = "unverified"
	case m == nil:
		if len(r.Verified) == 0 {
			c.metrics.digests.WithLabelValues("none", "unknown").Inc()
		}
	case m.Source == integrity.FromIndex && rule.Mode != Immutable:
		c.metrics.digests.WithLabelValues(m.Source.String(), "outdated").Inc()
		log.Info("digest of an index is not that of the response", "want", m.Digest.String(), "got", r.Got.String())
		f.unstored = "index-outdated"
	default:
		c.metrics.digests.WithLabelValues(m.Source.String(), "mismatch").Inc()
		f.err = &MismatchError{URL: logURL(target), Want: m.Digest, Got: r.Got, Source: m.Source}
		log.Error("digest mismatch: not stored", "source", m.Source.String(), "want", m.Digest.String(), "got", r.Got.String())
	}
	return f
}

// verifiedBy names the digests of a body and who said so, as blake2b-256:… (url).
func verifiedBy(claims []integrity.Claim) string {
	texts := make([]string, len(claims))
	for i, c := range claims {
		texts[i] = c.String()
	}
	return strings.Join(texts, ", ")
}

// proofOf names digests by algorithm and who named them.
func proofOf(claims []integrity.Claim) string {
	if len(claims) == 0 {
		return ""
	}
	texts := make([]string, len(claims))
	for i, c := range claims {
		texts[i] = c.Digest.Algorithm().String() + " (" + c.Source.String() + ")"
	}
	return strings.Join(texts, ", ")
}

// claims lists what is known of the digest of the body. What is known by URLs holds for
// none that a request's content selects.
func (f *fill) claims(h http.Header) []integrity.Claim {
	if f.content != nil {
		return integrity.HeaderClaims(h)
	}
	claims := append(f.rule.claims(f.sent.URL, h), f.c.learnt(f.sent.URL, f.rule)...)
	return append(claims, f.hints...)
}

// expect gathers what the body of resp is to be held to.
func (f *fill) expect(resp *http.Response, claims []integrity.Claim) {
	f.check.Close()
	f.check, f.withheld = nil, 0
	f.ledgered = nil
	if f.content == nil {
		f.ledgered = f.c.ledgered(f.rule, f.sent.URL, resp.StatusCode, f.set, f.sent.Header, resp.Header)
	}
	if resp.StatusCode == http.StatusOK {
		f.check = f.rule.newCheck(claims, resp.Header, f.ledgered != nil)
	}
	switch {
	case f.check != nil && len(f.check.Claims()) > 0, f.ledgered != nil && f.ledgered.known:
		f.withheld = heldBack
	case f.checker != nil:
		f.withheld = heldEnd
	}
	f.dismiss()
	if f.teaches() {
		f.lesson = f.attend()
		f.withheld = max(f.withheld, heldEnd)
	}
	f.spool.holdBack(f.withheld)
}

// verify holds the body, all of which is there, to what is known of it.
func (f *fill) verify() error {
	if f.check == nil {
		return nil
	}
	var body io.ReaderAt
	if f.spool.lostTo() == nil {
		body = f.spool.w
	}
	r := f.check.Finish(f.sum, body)
	if f.rule.Verify != VerifyOff {
		found := f.c.settle(r, f.rule, f.sent.URL, f.log)
		f.verified, f.kept = found.verified, found.unstored == ""
		if found.err != nil {
			return found.err
		}
		if err := f.late(); err != nil || !f.kept {
			return err
		}
	}
	size, _ := f.spool.progress()
	return f.c.enter(f.ledgered, r.Content, r.ContentOK, f.sum, size, f.log)
}
