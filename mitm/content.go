package mitm

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"larder/cache"
	"larder/git"
	"larder/policy"
)

const (
	// maxContent is the largest request body, in bytes as sent, that is read whole to
	// be part of a key. git asks for 80,000 refs in as many.
	maxContent = 4 << 20
	// maxDecoded bounds how far a compressed one is unpacked to be understood.
	maxDecoded = 16 << 20
	// maxContents bounds the memory of all that are held at a time. What comes when it
	// is taken is passed.
	maxContents = 64 << 20
	// firstContent is the room that a body of unknown length begins with.
	firstContent = 4 << 10
)

// content is a request body that was read to be understood.
type content struct {
	kind  policy.RequestBody
	bytes []byte
	git   *git.Request // for the kinds of git
	held  int64        // of Server.contents
}

// bodyFor reads the body of r if the rule that may decide about it asks which kind it
// is of; else the content is nil.
func (s *Server) bodyFor(rule *policy.Rule, r *http.Request) (*content, error) {
	if rule == nil || rule.RequestBody == policy.BodyUnread {
		return nil, nil
	}
	c, err := s.readContent(r)
	if err == nil {
		s.metrics.bodies.WithLabelValues(c.kind.String()).Inc()
	}
	return c, err
}

// readContent reads the body of r, as far as it can be part of a key, and leaves in its
// place one that reads the same. The caller gives the content back.
func (s *Server) readContent(r *http.Request) (*content, error) {
	c := &content{kind: policy.BodyUnusable}
	if r.ContentLength > maxContent || len(r.Trailer) > 0 || expectsContinue(r) || upgradeOf(r.ProtoMajor, r.Header) != "" {
		return c, nil
	}
	whole, err := s.collect(r, c)
	if err != nil {
		s.giveBack(c)
		return nil, &requestError{fmt.Errorf("request body: %w", err)}
	}
	r.Body = replayed{io.MultiReader(bytes.NewReader(c.bytes), r.Body), r.Body}
	if !whole || len(r.Trailer) > 0 {
		return c, nil
	}
	c.kind = policy.BodyAny
	request := readGit(r.Header, c.bytes)
	switch request.Kind {
	case git.Fetch:
		c.kind, c.git = policy.BodyGitFetch, request
	case git.Refs:
		c.kind, c.git = policy.BodyGitRefs, request
	}
	return c, nil
}

// replayed is a body whose beginning was read before.
type replayed struct {
	io.Reader
	io.Closer
}

// collect reads into c what there is room for; whole says that it is all.
func (s *Server) collect(r *http.Request, c *content) (whole bool, err error) {
	room := int64(firstContent)
	if r.ContentLength >= 0 {
		room = r.ContentLength + 1 // to see the end
	}
	for {
		more := room - int64(cap(c.bytes))
		if room > maxContent+1 || !s.contents.take(more) {
			return false, nil
		}
		c.held += more
		grown := make([]byte, len(c.bytes), room)
		copy(grown, c.bytes)
		c.bytes = grown
		for len(c.bytes) < cap(c.bytes) {
			n, err := r.Body.Read(c.bytes[len(c.bytes):cap(c.bytes)])
			c.bytes = c.bytes[:len(c.bytes)+n]
			if err == io.EOF {
				return true, nil
			}
			if err != nil {
				return false, err
			}
		}
		room = min(2*room, max(maxContent+1, room+1))
	}
}

// giveBack ends the use of a content.
func (s *Server) giveBack(c *content) {
	s.contents.give(c.held)
	c.held = 0
}

// allowance is a number of bytes that may be held at a time.
type allowance struct{ left atomic.Int64 }

func (a *allowance) take(n int64) bool {
	if a.left.Add(-n) >= 0 {
		return true
	}
	a.left.Add(n)
	return false
}

func (a *allowance) give(n int64) { a.left.Add(n) }

// readGit reads a request to git-upload-pack; of the kind Other is what is none.
func readGit(h http.Header, body []byte) *git.Request {
	other := &git.Request{}
	if !isOne(h["Content-Type"], git.RequestType) || len(h["Git-Protocol"]) > 1 {
		return other
	}
	var plain io.Reader = bytes.NewReader(body)
	switch coding := h["Content-Encoding"]; {
	case len(coding) == 0:
	case isOne(coding, "gzip") || isOne(coding, "x-gzip"):
		var err error
		if plain, err = gunzip(body); err != nil {
			return other
		}
	default:
		return other
	}
	request, err := git.ReadRequest(plain, h.Get("Git-Protocol"))
	if err != nil {
		return other
	}
	return request
}

func isOne(values []string, want string) bool {
	return len(values) == 1 && strings.EqualFold(values[0], want)
}

// errDecoded ends the unpacking of a body.
var errDecoded = errors.New("the body is too large, or something follows it")

// gunzip unpacks a body that is one member of gzip and no byte more: where a second one
// follows, whether it belongs to the request is for each reader to say.
func gunzip(body []byte) (io.Reader, error) {
	packed := bytes.NewReader(body)
	z, err := gzip.NewReader(packed)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return &oneMember{z: z, packed: packed, left: maxDecoded}, nil
}

type oneMember struct {
	z      *gzip.Reader
	packed *bytes.Reader
	left   int
}

func (m *oneMember) Read(p []byte) (int, error) {
	n, err := m.z.Read(p)
	if m.left -= n; m.left < 0 || err == io.EOF && m.packed.Len() > 0 {
		return 0, errDecoded
	}
	return n, err
}

// question is the request and its content as the cache is to take them under a rule
// for a kind.
func (c *content) question(kind policy.RequestBody, out *http.Request) (*http.Request, *cache.Content) {
	as := &cache.Content{Kind: kind.String(), Bytes: c.bytes}
	if !kind.Git() {
		as.Key = keyOf(out.Header, c.bytes)
		return out, as
	}
	// Packs are compressed, and an answer in a coding could not be read on its way.
	out = out.WithContext(out.Context())
	out.Header = maps.Clone(out.Header)
	out.Header["Accept-Encoding"] = []string{"identity"}
	as.Key = c.git.Digest
	// The digest has the protocol's version. The agent goes along since forges let
	// others in only by it.
	as.Fields = []string{"Accept", "Git-Protocol", "User-Agent"}
	as.Check = func(header http.Header) cache.Checker {
		if !isOne(header["Content-Type"], git.ResultType) || len(header["Content-Encoding"]) > 0 {
			return otherAnswer{}
		}
		return c.git.Answer()
	}
	return out, as
}

// recheckProof returns what judges the answer at a rule's recheck_at, nil where the
// status says all.
func recheckProof(at string) func(http.Header, io.Reader) bool {
	if !strings.HasSuffix(at, policy.GitRecheck) {
		return nil
	}
	return func(header http.Header, body io.Reader) bool {
		return isOne(header["Content-Type"], git.AdvertisementType) && len(header["Content-Encoding"]) == 0 && git.Advertises(body)
	}
}

// pushed returns, after a push that was not refused by its status, where the repository
// shows its refs, and where they are asked for in version 2. Who fetches next must not
// be given what was asked before.
func pushed(r *http.Request, res *http.Response) (refs, asked *url.URL) {
	path, ok := strings.CutSuffix(r.URL.EscapedPath(), "/git-receive-pack")
	if !ok || r.Method != http.MethodPost || res.StatusCode != http.StatusOK {
		return nil, nil
	}
	at := func(tail, query string) *url.URL {
		u := *r.URL
		u.RawPath, u.RawQuery = path+tail, query
		u.Path, _ = url.PathUnescape(u.RawPath) // which came out of such a path
		return &u
	}
	return at("/info/refs", "service=git-upload-pack"), at("/git-upload-pack", "")
}

// otherAnswer is one that is none of git-upload-pack.
type otherAnswer struct{}

func (otherAnswer) Write(p []byte) (int, error) { return len(p), nil }
func (otherAnswer) Done() (string, error)       { return "content-type", nil }

// keyOf is a digest of a body and of what tells how to read it.
func keyOf(h http.Header, body []byte) [32]byte {
	digest := sha256.New()
	for _, name := range []string{"Content-Type", "Content-Encoding", "Content-Language"} {
		for _, v := range h[name] {
			_, _ = digest.Write(binary.AppendUvarint(nil, uint64(len(v))+1)) // a hash never fails
			_, _ = io.WriteString(digest, v)
		}
		_, _ = digest.Write([]byte{0})
	}
	_, _ = digest.Write(body)
	return [32]byte(digest.Sum(nil))
}
