package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// answerTime bounds the wait for an answer's header, and for each further line or
// byte of it: the server may have to look at everything it holds before it has
// something to say.
const answerTime = 10 * time.Minute

// ErrCutShort says that an answer ended before it was complete.
var ErrCutShort = errors.New("larder's answer was cut short; its log says why")

// A RefusedError is an answer that says why the call was not done.
type RefusedError struct {
	Status int
	Text   string
	hint   string
}

// Error is the server's text.
func (e *RefusedError) Error() string { return e.Text }

// Hint says what to do, "" if the server does not know either.
func (e *RefusedError) Hint() string { return e.hint }

// Client calls the store API and the doctor of a running larder. It is safe for concurrent use.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// NewClient returns a Client of the larder at addr, a host:port. dial, if not nil,
// is used in place of TCP, such as for a Unix socket. token may be "".
func NewClient(addr, token string, dial func(ctx context.Context) (net.Conn, error)) *Client {
	transport := &http.Transport{
		// Never through a proxy: the one in the environment may be larder itself.
		Proxy:                 nil,
		ResponseHeaderTimeout: answerTime,
		DisableCompression:    true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			var c net.Conn
			var err error
			if dial != nil {
				c, err = dial(ctx)
			} else {
				c, err = (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, address)
			}
			if err != nil {
				return nil, err
			}
			return &idleConn{Conn: c}, nil
		},
	}
	return &Client{base: "http://" + addr, token: token, http: &http.Client{Transport: transport}}
}

// Close closes the connections that are kept.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// idleConn ends a read that waits too long.
type idleConn struct{ net.Conn }

// Read implements net.Conn.
func (c *idleConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Stats asks for the figures of the store and the state of the server.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	var st Stats
	return st, c.object(ctx, "/api/v1/stats", nil, &st)
}

// Findings asks which clients do not trust larder, newest first.
func (c *Client) Findings(ctx context.Context) ([]Finding, error) {
	var d Diagnosis
	return d.Findings, c.object(ctx, "/api/v1/doctor", nil, &d)
}

// ClearFindings forgets them and says how many there were.
func (c *Client) ClearFindings(ctx context.Context) (int, error) {
	body, err := c.call(ctx, http.MethodDelete, "/api/v1/doctor", nil, nil)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	var done Cleared
	if err := json.NewDecoder(body).Decode(&done); err != nil {
		return 0, cutShort(ctx, err)
	}
	return done.Cleared, nil
}

// List yields the stored responses that a pattern matches; "": all.
func (c *Client) List(ctx context.Context, match string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		body, err := c.call(ctx, http.MethodGet, "/api/v1/store/objects", query("match", match), nil)
		if err != nil {
			yield(Object{}, err)
			return
		}
		defer body.Close()
		for d := json.NewDecoder(body); ; {
			var o Object
			err := d.Decode(&o)
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(Object{}, cutShort(ctx, err))
				return
			}
			if !yield(o, nil) {
				return
			}
		}
	}
}

// Find returns what is stored under one URL; nothing is a *RefusedError with status
// 404.
func (c *Client) Find(ctx context.Context, target string) ([]Object, error) {
	var found []Object
	return found, c.object(ctx, "/api/v1/store/object", query("url", target), &found)
}

// Remove removes what a pattern matches.
func (c *Client) Remove(ctx context.Context, match string, progress func(Removal)) (Removal, error) {
	body, err := c.call(ctx, http.MethodDelete, "/api/v1/store/objects", query("match", match), nil)
	if err != nil {
		return Removal{}, err
	}
	return events[Removal, struct{}](ctx, body, progress, nil)
}

// Verify reads all that is stored at no more than rate bytes per second; 0: as fast
// as possible.
func (c *Client) Verify(ctx context.Context, rate int64, progress func(Scrub)) (Scrub, error) {
	body, err := c.call(ctx, http.MethodPost, "/api/v1/store/verify", query("rate", strconv.FormatInt(rate, 10)), nil)
	if err != nil {
		return Scrub{}, err
	}
	return events[Scrub, struct{}](ctx, body, progress, nil)
}

// Export returns an archive of what a pattern matches, to be read with the package
// cache/archive, which knows whether it is complete, and to be closed.
func (c *Client) Export(ctx context.Context, match string) (io.ReadCloser, error) {
	return c.call(ctx, http.MethodGet, "/api/v1/store/export", query("match", match), nil)
}

// Import stores what is in an archive.
func (c *Client) Import(ctx context.Context, r io.Reader, progress func(Imported), refused func(Refusal)) (Imported, error) {
	source := &source{r: r}
	body, err := c.call(ctx, http.MethodPost, "/api/v1/store/import", nil, source)
	if err != nil {
		return Imported{}, errors.Join(source.err, err)
	}
	done, err := events(ctx, body, progress, refused)
	// That the archive could not be read here explains what the server missed.
	return done, errors.Join(source.err, err)
}

// source remembers the error of reading a request's body, which net/http hides
// behind that of the connection it breaks off.
type source struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// Warm fetches items through the cache, jobs at a time; result gets what became of
// each, in the order in which they end.
func (c *Client) Warm(ctx context.Context, items []WarmItem, jobs int, result func(WarmResult)) (Warmed, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	for _, it := range items {
		if err := enc.Encode(it); err != nil {
			return Warmed{}, err
		}
	}
	body, err := c.call(ctx, http.MethodPost, "/api/v1/store/warm", query("jobs", strconv.Itoa(jobs)), &text)
	if err != nil {
		return Warmed{}, err
	}
	return events[Warmed](ctx, body, nil, result)
}

// Fetch gets one URL through the cache: the response that the proxy would have given
// to a client. Its body must be closed.
func (c *Client) Fetch(ctx context.Context, it WarmItem) (*http.Response, error) {
	text, err := json.Marshal(it)
	if err != nil {
		return nil, err
	}
	req, err := c.request(ctx, http.MethodPost, "/api/v1/store/fetch", nil, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	// A redirect is the origin's answer, not this server's.
	once := *c.http
	once.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := once.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask larder to fetch %s: %w", it.URL, plain(err))
	}
	if res.StatusCode == http.StatusUnauthorized && strings.Contains(res.Header.Get("WWW-Authenticate"), `realm="larder"`) {
		defer res.Body.Close()
		return nil, refusalOf(res)
	}
	return res, nil
}

func query(name, value string) url.Values {
	if value == "" {
		return nil
	}
	return url.Values{name: {value}}
}

func (c *Client) request(ctx context.Context, method, path string, q url.Values, body io.Reader) (*http.Request, error) {
	target := c.base + path
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}

// call sends a request and returns the body of a 200.
func (c *Client) call(ctx context.Context, method, path string, q url.Values, body io.Reader) (io.ReadCloser, error) {
	req, err := c.request(ctx, method, path, q, body)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("call larder: %w", plain(err))
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		return nil, refusalOf(res)
	}
	return res.Body, nil
}

// plain takes off the method and URL that net/http puts before an error.
func plain(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

func refusalOf(res *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // what there is will do
	var body struct {
		Error ErrorText `json:"error"`
	}
	if json.Unmarshal(text, &body) == nil && body.Error.Text != "" {
		return &RefusedError{Status: res.StatusCode, Text: body.Error.Text, hint: body.Error.Hint}
	}
	return &RefusedError{
		Status: res.StatusCode,
		Text:   fmt.Sprintf("larder answers %s: %s", res.Status, strings.TrimSpace(string(text))),
		hint:   "is this the admin address of a larder of this version?",
	}
}

func (c *Client) object(ctx context.Context, path string, q url.Values, into any) error {
	body, err := c.call(ctx, http.MethodGet, path, q, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(into); err != nil {
		return cutShort(ctx, err)
	}
	return nil
}

// events reads the lines of an answer that takes time. progress and item may be nil.
func events[P, R any](ctx context.Context, body io.ReadCloser, progress func(P), item func(R)) (P, error) {
	defer body.Close()
	var last P
	for d := json.NewDecoder(body); ; {
		var e Event[P, R]
		if err := d.Decode(&e); err != nil {
			return last, cutShort(ctx, err)
		}
		switch {
		case e.Error != nil:
			return last, &RefusedError{Status: http.StatusOK, Text: e.Error.Text, hint: e.Error.Hint}
		case e.Done != nil:
			return *e.Done, nil
		case e.Progress != nil:
			last = *e.Progress
			if progress != nil {
				progress(last)
			}
		case e.Item != nil && item != nil:
			item(*e.Item)
		}
	}
}

// cutShort says why an answer ended too early: because of ctx, or on the other side.
func cutShort(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w (%w)", ErrCutShort, err)
}
