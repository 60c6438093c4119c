//lint:file-ignore SA1019 net/http takes no :protocol, x/net is the only one that does

package mitm

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// extend asks an origin for what an extended CONNECT asked larder for: in the same
// way where the origin speaks HTTP/2 and knows it, else by Upgrade. r is the request
// in the words of the latter. The body of the response is an io.ReadWriteCloser where
// the origin agrees.
func (u *Upstream) extend(r *http.Request) (*http.Response, error) {
	if u.offline.Load() {
		return nil, ErrOffline
	}
	address := addressOfURL(r.URL)
	if r.URL.Scheme == "https" && !u.plainOnly.has(address) {
		res, err := u.extendOver2(r, address)
		if !errors.Is(err, errNotExtended) {
			return res, err
		}
		u.plainOnly.add(address)
	}
	out := r.WithContext(r.Context())
	out.Header = r.Header.Clone()
	out.Header["Sec-Websocket-Key"] = []string{newSocketKey()}
	return u.RoundTrip(out)
}

// errNotExtended: the origin has only HTTP/1.1's way.
var errNotExtended = errors.New("the origin knows no extended CONNECT")

// extendOver2 has a connection of its own: net/http's transport, which has those that
// are pooled, takes no :protocol.
func (u *Upstream) extendOver2(r *http.Request, address string) (*http.Response, error) {
	conn, err := u.carrierOf(u.wayTo(r)).streams.DialTLSContext(r.Context(), "tcp", address)
	if err != nil {
		return nil, err
	}
	if _, plain := conn.(*originConn); plain {
		_ = conn.Close()
		return nil, errNotExtended
	}
	t := &http2.Transport{
		DisableCompression: true, MaxHeaderListSize: uint32(u.options.MaxHeaderBytes),
		ReadIdleTimeout: 30 * time.Second, PingTimeout: 15 * time.Second,
	}
	over, err := t.NewClientConn(conn)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	said, say := io.Pipe()
	res, err := over.RoundTrip(extendedRequest(r, said))
	if err != nil {
		_ = say.Close()
		_ = over.Close()
		if strings.Contains(err.Error(), "extended connect not supported") { // x/net gives it no type
			return nil, errNotExtended
		}
		return nil, err
	}
	res.Body = &extendedBody{ReadCloser: res.Body, say: say, over: over}
	return res, nil
}

// extendedRequest is the extended CONNECT that r stands for.
func extendedRequest(r *http.Request, body io.ReadCloser) *http.Request {
	out := unadorned(r).WithContext(r.Context())
	out.Method, out.Body, out.ContentLength = http.MethodConnect, body, -1
	out.Header = out.Header.Clone()
	out.Header[protocolField] = []string{r.Header.Get("Upgrade")}
	for _, name := range []string{"Connection", "Upgrade"} {
		delete(out.Header, name)
	}
	return out
}

// extendedBody is both directions of a stream that has changed its protocol.
type extendedBody struct {
	io.ReadCloser
	say  *io.PipeWriter
	over *http2.ClientConn
}

// Write implements io.Writer.
func (b *extendedBody) Write(p []byte) (int, error) { return b.say.Write(p) }

// CloseWrite ends what is said, and not what is heard.
func (b *extendedBody) CloseWrite() error { return b.say.Close() }

// Close implements io.Closer: it resets the stream unless both sides have ended it, and
// ends the connection, which has no other.
func (b *extendedBody) Close() error {
	err := b.ReadCloser.Close()
	_ = b.say.CloseWithError(context.Canceled)
	return errors.Join(err, b.over.Close())
}

// maxRemembered bounds addresses.
const maxRemembered = 1024

// addresses is a set that forgets all when it has grown too large. It is safe for
// concurrent use.
type addresses struct {
	mu  sync.Mutex // guards set
	set map[string]struct{}
}

func (a *addresses) has(address string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.set[address]
	return ok
}

func (a *addresses) add(address string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.set == nil || len(a.set) >= maxRemembered {
		a.set = map[string]struct{}{}
	}
	a.set[address] = struct{}{}
}
