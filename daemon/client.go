package daemon

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

const (
	defaultStart  = time.Minute
	statusTimeout = 5 * time.Second
)

// StartOptions say which daemon is wanted, and how to start it.
type StartOptions struct {
	Paths Paths
	// Build is what the daemon's Options.Build must be.
	Build string
	// Command is the command line of a daemon, which is to call Server.Run. Its
	// first word is an absolute path. Empty: only a living daemon is used.
	Command []string
	// Env is the daemon's environment. nil: of this process's the variables that
	// say where things are (HOME, XDG_*, TMPDIR, LARDER_*) and how much Go takes
	// (GOMEMLIMIT and such), and none that say whom to trust.
	Env []string
	// Timeout bounds Connect, and StartRun, until a daemon answers. 0: a minute.
	Timeout time.Duration
}

// Client speaks with the daemon of one state folder. It is safe for concurrent
// use and holds nothing open.
type Client struct {
	o    StartOptions
	http *http.Client
}

// Connect finds the living daemon or starts one, and waits until it answers. A
// crashed daemon is replaced, one that is just ending is awaited, and one of
// another build is replaced if it has no runs.
//
// While it starts a daemon, descriptors that this process inherited are marked
// close-on-exec for a moment; do not start other processes meanwhile that want
// them. Errors are a *StartError, a *VersionError, ErrNotRunning, or say by a
// method Hint() string what to do.
func Connect(ctx context.Context, o StartOptions) (*Client, error) {
	o.Timeout = cmp.Or(o.Timeout, defaultStart)
	if o.Env == nil {
		o.Env = environment(os.Environ())
	}
	c := &Client{o: o, http: controlClient(o.Paths.Socket())}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	if err := c.reach(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Status asks the daemon about itself.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return status(ctx, c.http)
}

// End asks the daemon to end, which it refuses while it has runs. It does not
// wait for the end.
func (c *Client) End(ctx context.Context) error {
	return call(ctx, c.http, http.MethodPost, "/v1/end", nil, nil)
}

// controlClient makes one connection per call, so that none is found dead.
func controlClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialSocket(ctx, socket)
		},
		DisableKeepAlives: true,
	}}
}

// askStatus asks whatever daemon answers on the socket.
func askStatus(ctx context.Context, socket string) (Status, error) {
	return status(ctx, controlClient(socket))
}

func status(ctx context.Context, h *http.Client) (Status, error) {
	var st Status
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	return st, call(ctx, h, http.MethodGet, "/v1/status", nil, &st)
}

// refusedError is an answer other than 200.
type refusedError struct{ refusal }

func (e *refusedError) Error() string { return e.refusal.Error }
func (e *refusedError) Hint() string  { return e.refusal.Hint }

func refusedAs(err error, code string) bool {
	no, ok := errors.AsType[*refusedError](err)
	return ok && no.Code == code
}

// call does one exchange of the control protocol. in and out may be nil.
func call(ctx context.Context, h *http.Client, method, path string, in, out any) error {
	body, err := send(ctx, h, method, path, in)
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("read the background larder's answer to %s: %w", path, err)
	}
	return nil
}

// send returns the body of a 200, which the caller closes.
func send(ctx context.Context, h *http.Client, method, path string, in any) (io.ReadCloser, error) {
	var payload io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://larder"+path, payload)
	if err != nil {
		return nil, err
	}
	resp, err := h.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the background larder: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	no := new(refusedError)
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxControlBody))
	if err != nil {
		return nil, fmt.Errorf("read the background larder's answer to %s: %w", path, err)
	}
	if json.Unmarshal(text, &no.refusal) != nil || no.refusal.Error == "" {
		no.refusal = refusal{Code: codeFailed, Error: fmt.Sprintf("the background larder answered %s with %s", path, resp.Status)}
	}
	return nil, no
}

// gone tells that nobody answers on the socket, or that who did is no more.
func gone(err error) bool {
	for _, e := range []error{
		fs.ErrNotExist, syscall.ENOTDIR, syscall.ECONNREFUSED, // nobody listens
		syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF, // died meanwhile
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
