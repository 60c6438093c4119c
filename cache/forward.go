package cache

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
)

// forward passes the client's own request on and its response back, storing nothing.
func (x *exchange) forward(fwd, detail string) error {
	resp, err := x.own()
	if err != nil {
		return err
	}
	return x.relay(resp, cacheStatus{fwd: fwd, detail: detail})
}

// own sends the client's own request.
func (x *exchange) own() (*http.Response, error) {
	return x.send(func(ctx context.Context) *http.Request {
		req := ownRequest(ctx, x.r)
		x.content.in(req)
		return req
	})
}

// send sends a request for this client alone. Interim responses go to it as they come.
func (x *exchange) send(request func(context.Context) *http.Request) (*http.Response, error) {
	// net/http may call the hook when RoundTrip has returned already, as with
	// httputil.ReverseProxy; from then on the ResponseWriter is not the hook's.
	var mu sync.Mutex
	over := false
	ctx := httptrace.WithClientTrace(x.r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			mu.Lock()
			defer mu.Unlock()
			if over {
				return nil
			}
			x.inform(code, header)
			return nil
		},
	})
	resp, vouched, err := x.c.exchangeUnder(x.rule, request(ctx))
	x.vouched = vouched
	mu.Lock()
	over = true
	mu.Unlock()
	return resp, err
}

// inform passes an interim response on (RFC 9110, section 15.2). HTTP/1.0 has none.
func (x *exchange) inform(code int, header textproto.MIMEHeader) {
	if !x.r.ProtoAtLeast(1, 1) {
		return
	}
	h := x.w.Header()
	maps.Copy(h, http.Header(header))
	x.w.WriteHeader(code)
	clear(h)
}

// forwardPart passes a range request on, and keeps what comes until all parts of the
// whole have. Where the rule wants it so, the whole is asked for first: ranges that come
// a moment later wait for its bytes instead of going upstream each.
func (x *exchange) forwardPart(f found) error {
	ask := func() (*http.Response, error) { return x.part(f) }
	if x.rule.FillRanges {
		others, err := x.background(f)
		if err != nil {
			return err
		}
		if others {
			return x.fetch(f, judgement{because: f.reason()})
		}
		ask = x.own
	}
	resp, err := ask()
	if err != nil {
		return err
	}
	return x.relay(resp, cacheStatus{fwd: f.reason(), detail: "range"})
}

// relay passes a response on as it comes: status, header, body with its flushes,
// trailers.
func (x *exchange) relay(resp *http.Response, cs cacheStatus) error {
	defer resp.Body.Close()
	fields := endToEnd(resp.Header)
	x.announceTrailer(fields, resp)
	p := x.newReply(resp.StatusCode, fields, cs)
	p.start()
	if x.r.Method == http.MethodHead {
		return nil
	}
	if resp.ContentLength < 0 || resp.ContentLength > bufferSize {
		if err := x.flush(); err != nil {
			return err
		}
	}
	var digest hash.Hash
	if resp.StatusCode == http.StatusOK && x.r.Method == http.MethodGet {
		digest = sha256.New()
	}
	if err := x.stream(p, resp.Body, digest); err != nil {
		return err
	}
	if digest != nil {
		x.out.SHA256 = hexSum([32]byte(digest.Sum(nil)))
	}
	x.sendTrailer(endToEnd(resp.Trailer))
	return nil
}

// stream copies body to the client, flushing what was read each time.
func (x *exchange) stream(p *reply, body io.Reader, digest hash.Hash) error {
	buf := getBuffer()
	defer putBuffer(buf)
	for {
		n, err := body.Read(*buf)
		if n > 0 {
			x.out.UpstreamBytes += int64(n)
			if digest != nil {
				digest.Write((*buf)[:n])
			}
			if _, err := p.Write((*buf)[:n]); err != nil {
				return err
			}
			if err == nil {
				if err := x.flush(); err != nil {
					return err
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return &readError{err}
		}
	}
}

// announceTrailer repeats upstream's announcement of trailer fields (RFC 9110,
// section 6.6.2), which is itself a field of one connection. HTTP/1.1 carries
// trailers only in chunked bodies, so for a client that wants them the length goes.
func (x *exchange) announceTrailer(h http.Header, resp *http.Response) {
	if len(resp.Trailer) == 0 {
		return
	}
	h["Trailer"] = []string{strings.Join(slices.Sorted(maps.Keys(resp.Trailer)), ", ")}
	if x.r.ProtoMajor == 1 && acceptsTrailers(x.r.Header) {
		delete(h, "Content-Length")
	}
}
