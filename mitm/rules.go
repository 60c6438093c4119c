package mitm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/google/martian/v3"
	"github.com/google/martian/v3/fifo"
	"github.com/google/martian/v3/header"

	"larder/cache"
	"larder/cache/integrity"
	"larder/curation"
	"larder/policy"
)

// ruleset is one policy together with who may use the proxy at all, and what the
// wire makes of its rules, each made when it first decides. A request and a CONNECT
// are judged by one ruleset from the first question to the last.
type ruleset struct {
	policy Policy
	access Access
	made   sync.Map // *policy.Rule → *rule

	curator  *curation.Curator // nil: nothing is curated, nor added
	curating curatingPolicy    // policy, beside a curator
}

// rule is a policy.Rule as the wire and the cache need it. The modifiers are
// nil when the rule changes nothing: such messages never enter martian.
type rule struct {
	name     string
	cache    *cache.Rule
	offline  *cache.Rule // the same without upstream
	body     policy.RequestBody
	request  martian.RequestModifier
	response martian.ResponseModifier
	registry policy.Registry
	// curated: a file may be refused although it is stored.
	curated bool
}

// of returns what a decision means on the wire.
func (s *ruleset) of(d policy.Decision) *rule {
	if d.Rule == nil {
		return &rule{}
	}
	if r, ok := s.made.Load(d.Rule); ok {
		return r.(*rule)
	}
	made := newRule(d.Rule)
	if s.curator != nil {
		made.curated = made.registry != "" && s.curating.CuratesRegistry(made.registry)
	}
	r, _ := s.made.LoadOrStore(d.Rule, made)
	return r.(*rule)
}

// keysOf lists rules that make all keys under which a response to a GET of target may
// be stored, each key once: that of a GET by who, whichever rule is for other methods,
// and those of other clients.
func (s *ruleset) keysOf(who policy.Client, target *url.URL) []*cache.Rule {
	first := s.of(s.policy.Classify(who, http.MethodGet, target)).cache
	if first == nil {
		first = &cache.Rule{}
	}
	all := []*cache.Rule{first}
	for _, p := range s.policy.Storing(target) {
		r := s.of(policy.Decision{Rule: p}).cache
		if !slices.ContainsFunc(all, func(o *cache.Rule) bool {
			return o.Partition == r.Partition && slices.Equal(o.DropQuery, r.DropQuery) && o.KeyByDigest == r.KeyByDigest && o.Access == r.Access
		}) {
			all = append(all, r)
		}
	}
	return all
}

// hops says where upstream's redirects may be followed on a client's behalf: where the
// client itself would be let go.
func (s *ruleset) hops(who policy.Client) func(*url.URL) error {
	return func(target *url.URL) error {
		d := s.policy.Classify(who, http.MethodGet, target)
		if err := s.curated(d, target); err != nil {
			return err
		}
		if d.Action != policy.Deny {
			d = s.policy.Connect(who, target.Hostname(), portOf(target))
		}
		if d.Action == policy.Deny {
			return &deniedError{s.of(d).name}
		}
		return nil
	}
}

// errUnjudged: the client asks for it itself, and is judged then.
var errUnjudged = errors.New("the curation has to know when it was published")

// curated says why a redirect to a target is not followed on account of the curation,
// which has judged what the client had asked for and not that.
func (s *ruleset) curated(d policy.Decision, target *url.URL) error {
	r := s.of(d)
	if s.curator == nil || r.registry == "" {
		return nil
	}
	ask := curation.Look(r.registry, target, nil)
	if ask.Kind != curation.File && ask.Kind != curation.Odd {
		return nil
	}
	ask.Vouches = d.Rule.Vouches
	j := s.curator.Judge(&ask)
	if j.Refused == nil && j.NeedsAge {
		return errUnjudged
	}
	return j.Refused
}

func newRule(p *policy.Rule) *rule {
	r := &rule{name: p.Name, cache: newCacheRule(p), body: p.RequestBody, registry: p.Registry}
	if r.cache != nil {
		offline := *r.cache
		offline.Offline = true
		r.offline = &offline
	}
	if !p.Request.Empty() {
		r.request = newModifiers(p.Request)
	}
	if !p.Response.Empty() {
		r.response = newModifiers(p.Response)
	}
	return r
}

// newCacheRule returns nil for actions that store nothing.
func newCacheRule(p *policy.Rule) *cache.Rule {
	mode := cache.Immutable
	switch p.Action {
	case policy.Immutable:
	case policy.Revalidate:
		mode = cache.Revalidate
	case policy.HTTP:
		mode = cache.HTTP
	default:
		return nil
	}
	return &cache.Rule{
		Name:                 p.Name,
		Mode:                 mode,
		TTL:                  p.TTL,
		StaleIfError:         p.StaleIfError,
		StaleWhileRevalidate: p.StaleWhileRevalidate,
		NegativeTTL:          p.NegativeTTL,
		Vary:                 p.Vary,
		DropQuery:            p.DropQuery,
		Partition:            partition(p),
		MaxObject:            p.MaxObject,
		MaxStore:             p.MaxStore,
		Pin:                  p.Pin,
		Offline:              p.Offline,
		FillRanges:           p.FillRanges,
		FinishFill:           finishFill(p.FinishFill),
		OwnFields:            ownFields(p.Request),
		Access:               access(p.Authorized),
		SignedBy:             signedBy(p),
		FollowRedirects:      p.Redirects == policy.FollowRedirects,
		KeyByDigest:          p.Key == policy.KeyDigest,
		ValidateHead:         p.Validate == policy.ValidateHead,
		RecheckTTL:           p.RecheckTTL,
		RecheckScope:         p.RecheckScope,
		RecheckAt:            p.RecheckAt,
		RecheckProof:         recheckProof(p.RecheckAt),
		Digests:              pathDigests(p.Digest),
		Verify:               verify(p.Verify),
		Index:                indexOf(p),
		Share:                p.Share,
		Ledger:               ledgerMode(p.Ledger),
	}
}

func signedBy(p *policy.Rule) func(string) bool {
	if len(p.SignedBy) == 0 {
		return nil
	}
	return p.Signs
}

func access(a policy.Authorized) cache.Access {
	switch a {
	case policy.Recheck:
		return cache.AccessRecheck
	case policy.Signed:
		return cache.AccessSigned
	case policy.Public:
		return cache.AccessPublic
	}
	return cache.AccessByResponse
}

// ownFields names what a rule sets, whatever the client has sent.
func ownFields(c policy.HeaderChanges) []string {
	var names []string
	for _, f := range c.Set {
		names = append(names, http.CanonicalHeaderKey(f.Name))
	}
	return names
}

// pathDigests compiles what policy has checked already; a pattern that does not compile
// here is none that a policy could hold.
func pathDigests(all []policy.PathDigest) []integrity.PathPattern {
	var patterns []integrity.PathPattern
	for _, d := range all {
		if p, err := integrity.NewPathPattern(d.Algorithm, d.Pattern); err == nil {
			patterns = append(patterns, p)
		}
	}
	return patterns
}

func verify(v policy.Verify) cache.Verify {
	switch v {
	case policy.VerifyRequired:
		return cache.VerifyRequired
	case policy.VerifyOff:
		return cache.VerifyOff
	}
	return cache.VerifyWhenKnown
}

func ledgerMode(l policy.Ledger) cache.LedgerMode {
	switch l {
	case policy.LedgerWarn:
		return cache.LedgerWarn
	case policy.LedgerRefuse:
		return cache.LedgerRefuse
	}
	return cache.LedgerOff
}

func indexOf(p *policy.Rule) *cache.Index {
	if p.Index == "" {
		return nil
	}
	return &cache.Index{Kind: p.Index, Vouches: p.Vouches, Hosts: p.VouchedHosts()}
}

// checkedPartition begins that of rules under which upstream says who may have what is
// stored. Under no other rule, nor in another larder, may it be found. Those of one preset
// have one, and so have those of the operator's own file: whoever says that it has what a
// digest names is believed by the others.
const checkedPartition = "checked"

// partition names what is fetched with changes to the request header, so that it is
// kept apart from what is fetched with others: "" without any, else a digest, since
// they may hold credentials.
func partition(p *policy.Rule) string {
	var names []string
	if p.Authorized == policy.Recheck || p.Authorized == policy.Signed {
		names = append(names, checkedPartition)
		if p.Preset != "" {
			names = append(names, p.Preset)
		}
	}
	if !p.Request.Empty() {
		names = append(names, digestOf(p.Request))
	}
	return strings.Join(names, "-")
}

// digestOf tells header changes apart.
func digestOf(c policy.HeaderChanges) string {
	var b []byte
	add := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	b = binary.AppendUvarint(b, uint64(len(c.Remove)))
	for _, name := range c.Remove {
		add(http.CanonicalHeaderKey(name))
	}
	for _, fields := range [][]policy.HeaderField{c.Set, c.Add} {
		b = binary.AppendUvarint(b, uint64(len(fields)))
		for _, f := range fields {
			add(http.CanonicalHeaderKey(f.Name))
			add(f.Value)
		}
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func finishFill(f policy.FinishFill) cache.FinishFill {
	switch f {
	case policy.FinishAlways:
		return cache.FinishAlways
	case policy.FinishNever:
		return cache.FinishNever
	}
	return cache.FinishNear
}

// newModifiers composes martian's modifiers in policy's order: remove, set,
// add. Of martian's own, only those that look up no context are used here (Via
// and HAR would need martian.TestContext around each message).
func newModifiers(c policy.HeaderChanges) *fifo.Group {
	g := fifo.NewGroup()
	add := func(m martian.RequestResponseModifier) {
		g.AddRequestModifier(m)
		g.AddResponseModifier(m)
	}
	if len(c.Remove) > 0 {
		add(header.NewBlacklistModifier(c.Remove...))
	}
	for _, f := range c.Set {
		add(header.NewModifier(f.Name, f.Value))
	}
	for _, f := range c.Add {
		add(header.NewAppendModifier(f.Name, f.Value))
	}
	return g
}

// modifyingWriter changes the header of a response that the cache writes, at
// the moment it goes out; what is stored stays as it came.
type modifyingWriter struct {
	http.ResponseWriter
	request  *http.Request
	modifier martian.ResponseModifier
	wrote    bool
}

// WriteHeader implements http.ResponseWriter.
func (w *modifyingWriter) WriteHeader(status int) {
	if !w.wrote && status >= 200 {
		w.wrote = true
		// martian wants a whole response; the modifiers see status and header.
		res := &http.Response{
			StatusCode: status, Header: w.Header(), Request: w.request,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1, Body: http.NoBody,
		}
		_ = w.modifier.ModifyResponse(res) // header modifiers fail only on framing fields, which policy refuses
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *modifyingWriter) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *modifyingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
