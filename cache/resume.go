package cache

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// maxResumes bounds the tries without progress, maxTries all tries of one fill.
	maxResumes = 5
	maxTries   = 32
	// progress is how many bytes make a try count as one that went on.
	progress = 64 << 10
	// firstDelay doubles with each try without progress.
	firstDelay = 50 * time.Millisecond
)

// errChanged says that upstream now has another representation than the one of which
// clients have a part already.
var errChanged = errors.New("the response changed upstream while it was being read")

// errNoRange says that upstream has answered a range with something else.
var errNoRange = errors.New("upstream does not know ranges")

// resumption gets the rest of a body that upstream broke off, so that clients notice
// nothing: with Range and If-Range under a strong validator, else by asking for the
// whole once more and comparing what is there already by its SHA-256.
type resumption struct {
	f           *fill
	etag, date  string // validators of the response; date only if strong
	total       int64  // its Content-Length, or -1
	tries, vain int
	reached     int64
	noRange     bool // ranges have proved useless: only the whole will do
	// unseen: no client has any of it, so that whatever comes now is the response.
	unseen    bool
	requested time.Time // when the latest try was sent
}

// begin notes what resp says of itself, the response to be resumed.
func (r *resumption) begin(resp *http.Response) {
	r.etag, r.total, r.date = resp.Header.Get("Etag"), resp.ContentLength, ""
	if date, strong := strongDate(resp.Header); strong {
		r.date = date
	}
}

// next returns a response whose body continues where the spool ends, given how the
// last one ended. It returns cause, with what else failed, when nothing is left to try.
func (r *resumption) next(cause error) (*http.Response, error) {
	if _, ok := errors.AsType[*readError](cause); !ok || r.f.ctx.Err() != nil {
		return nil, cause
	}
	if r.f.content != nil && !r.unseen {
		return nil, cause // ranges are of GET, and nobody says that what is made twice is the same
	}
	for {
		size, _ := r.f.spool.progress()
		if r.total >= 0 && size >= r.total {
			return nil, cause // more than all of it: not even the first answer was right
		}
		if size-r.reached >= progress {
			r.vain = 0
		}
		r.reached = size
		r.tries++
		r.vain++
		if r.vain > maxResumes || r.tries > maxTries {
			return nil, cause
		}
		if err := r.pause(); err != nil {
			return nil, cause
		}
		resp, err := r.try(size)
		if err == nil {
			r.f.c.metrics.resumed.Inc()
			r.f.log.Info("fill resumed", "offset", size, "try", r.tries, "err", cause)
			return resp, nil
		}
		switch {
		case errors.Is(err, errNoRange) && !r.noRange:
			r.noRange = true
			r.vain-- // not upstream's fault
		case errors.Is(err, errChanged), errors.Is(err, errNoRange):
			return nil, errors.Join(cause, err)
		}
	}
}

func (r *resumption) pause() error {
	d := firstDelay << (r.vain - 1)
	d = d/2 + rand.N(d/2+1)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-r.f.ctx.Done():
		return r.f.ctx.Err()
	}
}

// try asks for the rest once. errChanged is final, other errors are not.
func (r *resumption) try(size int64) (*http.Response, error) {
	req := r.f.sent.Clone(r.f.ctx)
	condition := cmp.Or(r.strongTag(), r.date)
	if size > 0 && condition != "" && !r.noRange {
		req.Header["Range"] = []string{"bytes=" + strconv.FormatInt(size, 10) + "-"}
		req.Header["If-Range"] = []string{condition}
	}
	r.requested = r.f.c.now()
	resp, _, err := r.f.c.exchangeUnder(r.f.rule, req)
	if err != nil {
		return nil, err
	}
	if err := r.accept(resp, size); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

func (r *resumption) accept(resp *http.Response, size int64) error {
	if r.unseen {
		if failsForNow(resp.StatusCode) {
			return fmt.Errorf("upstream answers %s", resp.Status)
		}
		return nil
	}
	if r.isOther(resp) {
		switch {
		case r.f.rule.Mode != Immutable:
			return errChanged
		case resp.StatusCode == http.StatusPartialContent:
			// Under Immutable there is no other representation, only servers behind one
			// name that each have a tag of their own for the same file. A part under
			// another tag is of no use; the bytes of the whole decide.
			return fmt.Errorf("upstream sends a part under another entity tag: %w", errNoRange)
		}
	}
	switch {
	case resp.StatusCode == http.StatusPartialContent:
		return r.acceptPart(resp, size)
	case resp.StatusCode == r.f.status:
		return r.acceptWhole(resp, size)
	case failsForNow(resp.StatusCode):
		return fmt.Errorf("upstream answers %s", resp.Status)
	}
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && !r.noRange {
		return fmt.Errorf("upstream answers %s to a range after %d bytes: %w", resp.Status, size, errNoRange)
	}
	return fmt.Errorf("upstream answers %s: %w", resp.Status, errChanged)
}

// isOther reports whether a response is of another representation by its own word.
func (r *resumption) isOther(resp *http.Response) bool {
	tag := resp.Header.Get("Etag")
	return tag != "" && r.etag != "" && resp.StatusCode < 300 && !weakEqual(tag, r.etag)
}

func (r *resumption) acceptPart(resp *http.Response, size int64) error {
	part, complete, ok := parseContentRange(resp.Header.Get("Content-Range"))
	if r.noRange || !ok || part.off != size || (r.total >= 0 && complete >= 0 && complete != r.total) {
		return fmt.Errorf("upstream sends %q after %d bytes: %w", resp.Header.Get("Content-Range"), size, errNoRange)
	}
	if !r.agrees(resp.Header) {
		return fmt.Errorf("upstream sends a part without the validator of the whole: %w", errNoRange)
	}
	return nil
}

// agrees reports whether a part has the strong validator of what is there already.
// RFC 9110, section 15.3.7.3, joins nothing else: an origin that ignores If-Range
// sends a part of whatever it has now.
func (r *resumption) agrees(part http.Header) bool {
	if tag := r.strongTag(); tag != "" {
		return strongEqual(part.Get("Etag"), tag)
	}
	return r.date != "" && part.Get("Last-Modified") == r.date
}

// strongTag is the entity tag of the first response if it is a strong one.
func (r *resumption) strongTag() string {
	if isWeak(r.etag) {
		return ""
	}
	return r.etag
}

// acceptWhole reads away what the spool holds already, if it is the same.
func (r *resumption) acceptWhole(resp *http.Response, size int64) error {
	if r.total >= 0 && resp.ContentLength >= 0 && resp.ContentLength != r.total {
		return errChanged
	}
	if size == 0 {
		return nil
	}
	h := sha256.New()
	buf := getBuffer()
	defer putBuffer(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, io.LimitReader(resp.Body, size), *buf)
	r.f.upstreamBytes.Add(n)
	if err != nil {
		return err
	}
	if n < size || [32]byte(h.Sum(nil)) != r.f.spool.sum() {
		return errChanged
	}
	return nil
}

// parseContentRange reads "bytes first-last/complete"; complete is -1 for "*".
func parseContentRange(s string) (part span, complete int64, ok bool) {
	rest, found := strings.CutPrefix(s, "bytes ")
	if !found {
		return span{}, 0, false
	}
	bounds, size, found := strings.Cut(rest, "/")
	from, to, dash := strings.Cut(bounds, "-")
	if !found || !dash {
		return span{}, 0, false
	}
	first, ok1 := parseOffset(from)
	last, ok2 := parseOffset(to)
	complete = -1
	if size != "*" {
		var ok3 bool
		if complete, ok3 = parseOffset(size); !ok3 || last >= complete {
			return span{}, 0, false
		}
	}
	return span{first, last - first + 1}, complete, ok1 && ok2 && first <= last
}
