package integrity

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"sync/atomic"
)

// maxDecoded bounds what a body in a content coding may unpack to, for its digest to be
// made, as a multiple of its length: beyond that it is taken for an attack on the one
// who unpacks it.
const maxDecoded = 1 << 10

// A Check makes the digests of one body while it passes, and says at the end which of
// the claims about it hold. It must be closed. One goroutine uses it.
type Check struct {
	claims []Claim
	// sent are hashes of the bytes as they are sent, SHA-256 excepted.
	sent    [algorithms]hash.Hash
	decoder *decoder // nil: there is no content coding
	opaque  bool     // there is one that cannot be undone
	size    int64

	// work takes parts to a goroutine that hashes them and says so; nil before there is
	// enough of the body to make that worth while. It ends when work is closed.
	work    chan []byte
	worked  chan struct{}
	pending bool
}

// ownPace is how much of a body is hashed by who brings it.
const ownPace = 1 << 20

// NewCheck begins to check a body in a content coding, "" for none. With content the
// SHA-256 of its content is made whatever the claims.
func NewCheck(claims []Claim, coding string, content bool) *Check {
	c := &Check{claims: Select(claims)}
	var within [algorithms]bool
	for _, claim := range c.claims {
		a := claim.Digest.Algorithm()
		if h := a.New(); h != nil && a != SHA256 && c.sent[a] == nil {
			c.sent[a] = h
		}
		if !claim.Coded {
			within[a] = true
			content = true
		}
	}
	switch {
	case coding == "":
	case !Decodes(coding):
		c.opaque = true
	case content:
		within[SHA256] = true
		c.decoder = startDecoder(coding, within)
	}
	return c
}

// Idle reports whether there is nothing to make.
func (c *Check) Idle() bool {
	if c.decoder != nil {
		return false
	}
	for _, h := range c.sent {
		if h != nil {
			return false
		}
	}
	return true
}

// Claims returns what is checked, the most trusted first.
func (c *Check) Claims() []Claim { return c.claims }

// Start is Write that may go on until Wait: p is not to be changed before that.
func (c *Check) Start(p []byte) {
	if c.size < ownPace || c.Idle() {
		c.hash(p)
		return
	}
	if c.work == nil {
		c.work, c.worked = make(chan []byte), make(chan struct{})
		go func(work <-chan []byte, worked chan<- struct{}) { // ends with Finish or Close
			for p := range work {
				c.hash(p)
				worked <- struct{}{}
			}
		}(c.work, c.worked)
	}
	c.work <- p
	c.pending = true
}

// Wait waits until what Start was given is no longer needed.
func (c *Check) Wait() {
	if c.pending {
		<-c.worked
		c.pending = false
	}
}

// rest ends the goroutine.
func (c *Check) rest() {
	c.Wait()
	if c.work != nil {
		close(c.work)
		c.work = nil
	}
}

// Write takes a part of the body. It never fails.
func (c *Check) Write(p []byte) (int, error) {
	c.hash(p)
	return len(p), nil
}

func (c *Check) hash(p []byte) {
	c.size += int64(len(p))
	for _, h := range c.sent {
		if h != nil {
			h.Write(p)
		}
	}
	if c.decoder != nil {
		c.decoder.write(p, c.size)
	}
}

// Close gives up what is not finished. A nil Check has nothing to give up.
func (c *Check) Close() error {
	if c == nil {
		return nil
	}
	c.rest()
	if c.decoder != nil {
		c.decoder.stop()
		c.decoder = nil
	}
	return nil
}

// Result is what a Check found.
type Result struct {
	// Verified are the claims that hold.
	Verified []Claim
	// Mismatch is the most trusted claim that does not hold, nil without one; Got is what
	// the body has instead, the zero value where it can have none.
	Mismatch *Claim
	Got      Digest
	// Contradicted are claims that do not hold and are not to be believed, since a more
	// trusted one with a strong algorithm holds.
	Contradicted []Claim
	// Content is the SHA-256 of the content without its coding, if it could be made.
	Content   [32]byte
	ContentOK bool
}

// Finish says which claims hold, given the SHA-256 of all that was written and a way
// to read it again, nil if there is none.
func (c *Check) Finish(sum [32]byte, body io.ReaderAt) Result {
	c.rest()
	r := Result{Content: sum, ContentOK: !c.opaque}
	var decoded *decoder
	if c.decoder != nil {
		decoded = c.decoder
		c.decoder = nil
		r.ContentOK = decoded.finish() == nil
		r.Content = decoded.sha256()
	}
	proved := false
	for i := range c.claims {
		claim := &c.claims[i]
		got, holds, known := c.judge(claim, sum, body, decoded, r.ContentOK)
		switch {
		case !known:
		case holds:
			r.Verified = append(r.Verified, *claim)
			proved = proved || claim.Digest.Algorithm().Strong()
		case proved:
			r.Contradicted = append(r.Contradicted, *claim)
		case r.Mismatch == nil && claim.Source != FromClient:
			r.Mismatch, r.Got = claim, got
		case claim.Source == FromClient:
			r.Contradicted = append(r.Contradicted, *claim)
		}
	}
	return r
}

// judge compares one claim. known is false where the digest cannot be made. A digest of
// the content that is that of the bytes as sent holds as well: there are servers that
// call a .tgz a tar file in the coding gzip.
func (c *Check) judge(claim *Claim, sum [32]byte, body io.ReaderAt, decoded *decoder, content bool) (got Digest, holds, known bool) {
	a := claim.Digest.Algorithm()
	sent := c.digest(a, sum, body, &c.sent)
	if sent == claim.Digest {
		return sent, true, true
	}
	switch {
	case c.opaque && !claim.Coded, a == GoZip && (decoded != nil || body == nil):
		return Digest{}, false, false
	case claim.Coded || decoded == nil:
		return sent, false, true
	case !content:
		// Not what the coding says that it is, so there is no content to have a digest.
		return Digest{}, false, true
	}
	got = c.digest(a, decoded.sha256(), nil, &decoded.hashes)
	return got, got == claim.Digest, true
}

// digest returns the digest by an algorithm, the zero value where there is none.
func (c *Check) digest(a Algorithm, sum [32]byte, body io.ReaderAt, hashes *[algorithms]hash.Hash) Digest {
	var d Digest
	switch {
	case a == SHA256:
		d, _ = NewDigest(a, sum[:])
	case a == GoMod:
		d = goMod(sum)
	case a == GoZip && body != nil:
		d, _ = goZip(body, c.size) // no zip file: no digest
	case hashes[a] != nil:
		d, _ = NewDigest(a, hashes[a].Sum(nil))
	}
	return d
}

// Of returns the digest of a stored body, whose SHA-256 is known, by an algorithm.
func Of(a Algorithm, sum [32]byte, body io.ReaderAt, size int64) (Digest, error) {
	c := Check{size: size}
	h := a.New()
	if h == nil || a == SHA256 {
		d := c.digest(a, sum, body, &c.sent)
		if d.IsZero() && a != GoZip {
			return d, fmt.Errorf("digest of a stored body: %s cannot be made of it", a)
		}
		return d, nil
	}
	buf := make([]byte, goBlock)
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{io.NewSectionReader(body, 0, size)}, buf); err != nil {
		return Digest{}, fmt.Errorf("digest of a stored body: %w", err)
	}
	d, _ := NewDigest(a, h.Sum(nil))
	return d, nil
}

// decoder takes the coding away from a body as it passes, in a goroutine that ends with
// finish or stop.
type decoder struct {
	in     *io.PipeWriter
	done   chan struct{}
	hashes [algorithms]hash.Hash
	limit  *limited
	err    error // set when done is closed
}

// limited counts what comes out, and stops when it is too much for what went in.
type limited struct {
	hashes *[algorithms]hash.Hash
	size   int64
	// allowed grows with what has gone in.
	allowed atomic.Int64
}

func (l *limited) Write(p []byte) (int, error) {
	l.size += int64(len(p))
	if l.size > l.allowed.Load() {
		return 0, fmt.Errorf("unpacks to more than %d times its length", maxDecoded)
	}
	for _, h := range l.hashes {
		if h != nil {
			h.Write(p)
		}
	}
	return len(p), nil
}

func startDecoder(coding string, within [algorithms]bool) *decoder {
	out, in := io.Pipe()
	d := &decoder{in: in, done: make(chan struct{})}
	for a, wanted := range within {
		if wanted {
			d.hashes[a] = Algorithm(a).New()
		}
	}
	d.limit = &limited{hashes: &d.hashes}
	go func() { // ends when the pipe is closed at its other end, or the body is no such coding
		defer close(d.done)
		r, err := Decode(coding, out)
		if err == nil {
			_, err = io.Copy(d.limit, r)
		}
		if err == nil {
			// What follows the coding's own end belongs to no content.
			n, _ := io.Copy(io.Discard, out)
			if n > 0 {
				err = fmt.Errorf("%d bytes follow the end of the coding", n)
			}
		}
		d.err = err
		out.CloseWithError(err)
	}()
	return d
}

// write hands bytes over and waits until they are taken. Those that the decoder does not
// want any more it does not get.
func (d *decoder) write(p []byte, size int64) {
	select {
	case <-d.done:
		return
	default:
	}
	d.limit.allowed.Store(max(size, 1<<10) * maxDecoded)
	_, _ = d.in.Write(p) // the decoder's error is told by finish
}

// finish says that all has come, and whether it was of that coding.
func (d *decoder) finish() error {
	d.in.Close()
	<-d.done
	return d.err
}

func (d *decoder) stop() {
	d.in.CloseWithError(io.ErrUnexpectedEOF)
	<-d.done
}

func (d *decoder) sha256() [32]byte {
	if h := d.hashes[SHA256]; h != nil {
		return [32]byte(h.Sum(nil))
	}
	return sha256.Sum256(nil)
}
