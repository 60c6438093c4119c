package integrity

import "slices"

// Source is where a digest comes from. Its values go to disk; the smaller, the more it
// is trusted.
type Source uint8

// The sources. A header field comes with the body that it speaks of, from the same
// place, so it proves that the body is whole and not that it is the right one. What a
// client expects is its own affair: it refuses nothing.
const (
	FromURL    Source = 1
	FromIndex  Source = 2
	FromHeader Source = 3
	FromClient Source = 4
	// FromLedger is what was first seen under a URL. It is no claim: see package ledger.
	FromLedger Source = 5
)

// String returns url, index, header, client or ledger.
func (s Source) String() string {
	switch s {
	case FromURL:
		return "url"
	case FromIndex:
		return "index"
	case FromHeader:
		return "header"
	case FromClient:
		return "client"
	case FromLedger:
		return "ledger"
	}
	return "invalid"
}

// Claim is a digest that a body is said to have.
type Claim struct {
	Digest Digest
	Source Source
	// Coded: it is the digest of the bytes as they are sent, with their content coding.
	// Otherwise it is that of the content.
	Coded bool
}

// String returns the digest and where it comes from.
func (c Claim) String() string { return c.Digest.String() + " (" + c.Source.String() + ")" }

// rank orders algorithms by what is gained for what they cost: SHA-256 costs nothing,
// since the store makes it of every body.
func (a Algorithm) rank() int {
	return slices.Index([]Algorithm{SHA256, SHA512, SHA384, BLAKE2b, GoMod, GoZip, SHA1, MD5, CRC32C}, a)
}

// Select returns the claims worth checking, the most trusted first. Every SHA-256 is;
// besides, of the URL's and of the index's digests the best one each. Header fields
// count where there are neither, and a client's expectation where its digest costs
// nothing or nobody else has said anything.
func Select(claims []Claim) []Claim {
	var out []Claim
	add := func(s Source) {
		var best *Claim
		for i := range claims {
			c := &claims[i]
			if c.Source != s || slices.Contains(out, *c) {
				continue
			}
			if c.Digest.Algorithm() == SHA256 {
				out = append(out, *c)
			}
			if best == nil || c.Digest.Algorithm().rank() < best.Digest.Algorithm().rank() {
				best = c
			}
		}
		if best != nil && best.Digest.Algorithm() != SHA256 && !hashed(out, s, SHA256) {
			out = append(out, *best)
		}
	}
	add(FromURL)
	add(FromIndex)
	if len(out) == 0 {
		add(FromHeader)
	} else {
		out = append(out, free(claims, FromHeader, out)...)
	}
	if len(out) == 0 {
		add(FromClient)
	} else {
		out = append(out, free(claims, FromClient, out)...)
	}
	return out
}

// hashed reports whether among claims there is one from s with that algorithm.
func hashed(claims []Claim, s Source, a Algorithm) bool {
	return slices.ContainsFunc(claims, func(c Claim) bool { return c.Source == s && c.Digest.Algorithm() == a })
}

// free returns the claims from s whose digest is made anyway.
func free(claims []Claim, s Source, chosen []Claim) []Claim {
	var out []Claim
	for _, c := range claims {
		if c.Source != s {
			continue
		}
		a := c.Digest.Algorithm()
		if a == SHA256 || slices.ContainsFunc(chosen, func(o Claim) bool { return o.Digest.Algorithm() == a && o.Coded == c.Coded }) {
			out = append(out, c)
		}
	}
	return out
}
