package policy

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Verify says what becomes of responses by the digest that they should have.
type Verify uint8

const (
	// VerifyWhenKnown holds a body to every digest that is known of it.
	VerifyWhenKnown Verify = iota
	// VerifyRequired does so, and stores nothing of which none is known: such a
	// response is passed through.
	VerifyRequired
	// VerifyOff holds bodies to nothing.
	VerifyOff
)

var verifyNames = [...]string{VerifyWhenKnown: "when-known", VerifyRequired: "required", VerifyOff: "off"}

// String returns the word of the policy file.
func (v Verify) String() string {
	if int(v) >= len(verifyNames) {
		return "invalid"
	}
	return verifyNames[v]
}

// Ledger says what becomes of a response whose bytes are not those that were first
// seen under its URL.
type Ledger uint8

const (
	// LedgerOff: what is first seen is not written down.
	LedgerOff Ledger = iota
	// LedgerWarn says so and lets it pass.
	LedgerWarn
	// LedgerRefuse breaks the client's transfer and stores nothing.
	LedgerRefuse
)

var ledgerNames = [...]string{LedgerOff: "off", LedgerWarn: "warn", LedgerRefuse: "refuse"}

// String returns the word of the policy file.
func (l Ledger) String() string {
	if int(l) >= len(ledgerNames) {
		return "invalid"
	}
	return ledgerNames[l]
}

// PathDigest finds the digest of a body in the path of its URL.
type PathDigest struct {
	// Algorithm is one of sha256, sha512, sha1, md5, blake2b-256, or one of these with
	// -nix32 behind it, where the digest is written in Nix's base 32.
	Algorithm string
	// Pattern is RE2 over the path as sent, whose groups, joined, are the digest.
	Pattern string
}

func digestAlgorithms() []string {
	plain := []string{"sha256", "sha512", "sha1", "md5", "blake2b-256"}
	all := slices.Clone(plain)
	for _, name := range plain {
		all = append(all, name+"-nix32")
	}
	return all
}

// IndexKinds lists the kinds of index that digests are learnt from.
func IndexKinds() []string {
	return []string{"checksums", "conda", "crates", "debian", "go", "helm", "nix", "npm", "pypi", "rpm", "rubygems", "sidecar"}
}

// word reads one of names, whose position is its value.
func (d *ruleDecoder) word(v *yaml.Node, key string, names []string) (int, bool) {
	s, ok := d.text(v, d.context, key)
	if !ok {
		return 0, false
	}
	if i := slices.Index(names, s); i >= 0 {
		return i, true
	}
	hint := didYouMean(s, names)
	if hint == "" {
		hint = "known: " + strings.Join(names, ", ")
	}
	d.problem(v, d.context, hint, "%s must not be %q", key, s)
	return 0, false
}

func (d *ruleDecoder) verify(v *yaml.Node) {
	i, _ := d.word(v, "verify", verifyNames[:])
	d.rule.Verify = Verify(i)
}

func (d *ruleDecoder) ledger(v *yaml.Node) {
	i, _ := d.word(v, "ledger", ledgerNames[:])
	d.rule.Ledger = Ledger(i)
}

func (d *ruleDecoder) indexKind(v *yaml.Node) {
	kinds := IndexKinds()
	if i, ok := d.word(v, "index", kinds); ok {
		d.rule.Index = kinds[i]
	}
}

func (d *ruleDecoder) vouchesFor(v *yaml.Node) {
	d.rule.VouchesFor = d.list(v, "vouches_for", func(s string) *valueError {
		p, err := parseHostPattern(s)
		if err != nil {
			return err
		}
		if p.everything() {
			return badValue("name the hosts whose files the index lists", "an index cannot vouch for every host")
		}
		d.rule.vouches = append(d.rule.vouches, p)
		return nil
	})
}

func (d *ruleDecoder) digests(v *yaml.Node) {
	if v.Kind != yaml.MappingNode {
		d.problem(v, d.context, `write { sha256: '^/blobs/sha256:([0-9a-f]{64})$' }`,
			"digest must be a mapping of algorithms to patterns, found %s", describe(v))
		return
	}
	if len(v.Content) == 0 {
		d.problem(v, d.context, "leave the key out if that is what is meant", "digest is an empty mapping")
	}
	var fields []field
	for _, name := range digestAlgorithms() {
		fields = append(fields, field{name, func(v *yaml.Node) { d.digest(v, name) }})
	}
	d.mapping(v, d.context+": digest", "digest", fields)
}

func (d *ruleDecoder) digest(v *yaml.Node, algorithm string) {
	context := d.context + ": digest"
	s, ok := d.text(v, context, algorithm)
	if !ok {
		return
	}
	if !strings.HasPrefix(s, "^") {
		d.problem(v, context, "a pattern is RE2 and begins with ^/", "%s: pattern %q does not begin with ^", algorithm, s)
		return
	}
	re, err := regexp.Compile(s)
	if err != nil {
		d.bad(v, context, algorithm, badRegexp(s, err))
		return
	}
	if re.NumSubexp() == 0 {
		d.problem(v, context, "put the digest in parentheses; several groups are joined", "%s: pattern %q has no group", algorithm, s)
		return
	}
	d.rule.Digest = append(d.rule.Digest, PathDigest{Algorithm: algorithm, Pattern: s})
}

// integrity reports keys that hold bodies to digests where there is nothing to hold,
// and fills in what holds when ledger is left out.
func (d *ruleDecoder) integrity() {
	r := d.rule
	if !r.Action.Stores() {
		return // cachingKeys says so
	}
	if r.Verify == VerifyOff {
		d.complain("digest", "leave verify out, or digest", "digest has no effect with verify: off")
	}
	if r.Index == "" {
		d.complain("vouches_for", "say with index what kind of index the responses are", "vouches_for has no effect without index")
	}
	switch {
	case r.Action != Immutable:
		d.complain("ledger", "use action immutable for what never changes",
			"ledger has no effect under action %s: what it serves may change", r.Action)
	case d.keys["ledger"] != nil:
	case r.Key == KeyDigest:
		r.Ledger = LedgerOff // there can be no other bytes
	case r.TTL > 0:
		r.Ledger = LedgerWarn
	default:
		r.Ledger = LedgerRefuse
	}
}

// Vouches reports whether an index under the rule may say what the digest of a file on
// host is, by vouches_for alone: for its own host it may always.
func (r *Rule) Vouches(host string) bool {
	return slices.ContainsFunc(r.vouches, func(p *HostPattern) bool { return p.Match(host) })
}

// VouchedHosts lists the hosts of vouches_for that are written out.
func (r *Rule) VouchedHosts() []string {
	var names []string
	for _, p := range r.vouches {
		for i := range p.globs {
			if g := &p.globs[i]; g.lead == leadNone && len(g.middle) == 0 {
				names = append(names, g.suffix)
			}
		}
	}
	return names
}

// integrityWords says what a storing rule holds bodies to.
func (r *Rule) integrityWords() []string {
	var parts []string
	if len(r.Digest) > 0 {
		var names []string
		for _, p := range r.Digest {
			names = append(names, p.Algorithm)
		}
		parts = append(parts, "The path names the "+strings.Join(names, " or ")+" digest of the body.")
	}
	switch r.Verify {
	case VerifyRequired:
		parts = append(parts, "A body that has not the digest known of it is refused, and one of which none is known is not stored.")
	case VerifyOff:
		parts = append(parts, "Bodies are held to no digest.")
	}
	if r.Index != "" {
		words := "Digests of the files that it lists are learnt from it, as an index of kind " + r.Index
		if len(r.VouchesFor) > 0 {
			words += ", also of those on " + strings.Join(r.VouchesFor, ", ")
		}
		parts = append(parts, words+".")
	}
	if r.Share != "" {
		parts = append(parts, "What is stored serves rules of share "+r.Share+" as well, where its SHA-256 is named.")
	}
	switch r.Ledger {
	case LedgerWarn:
		parts = append(parts, "The ledger keeps the digest first seen; other bytes later are reported and let through.")
	case LedgerRefuse:
		parts = append(parts, "The ledger keeps the digest first seen; other bytes later are refused.")
	}
	return parts
}
