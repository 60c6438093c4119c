package mitm

import (
	"context"
	"crypto/rand"
	"crypto/sha1" // RFC 6455 has no other
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"larder/mitm/bootstrap"
)

func init() { bootstrap.Restore() } // net/http has looked

// protocolField is where net/http keeps the :protocol of an extended CONNECT.
const protocolField = ":protocol"

// websocket is the one protocol that is carried so.
const websocket = "websocket"

// extended is a request of HTTP/2 that asks to speak another protocol on its stream
// (RFC 8441, Section 4).
type extended struct {
	protocol string
	body     io.ReadCloser // what the client says in it
}

type extendedKey struct{}

func extendedOf(r *http.Request) *extended {
	e, _ := r.Context().Value(extendedKey{}).(*extended)
	return e
}

var errProtocol = errors.New("no other protocol than websocket is carried in an extended CONNECT")

// unextended makes of an extended CONNECT the request that it stands for, the one
// that asks for the same over HTTP/1.1 (RFC 8441, Section 5): so that one rule holds
// for both, and a rule that denies the one denies the other. Other requests it returns
// as they are.
func unextended(r *http.Request) (*http.Request, error) {
	protocols, ok := r.Header[protocolField]
	if !ok {
		return r, nil
	}
	if r.Method != http.MethodConnect {
		return r, &requestError{errors.New("a :protocol belongs to CONNECT")}
	}
	e := &extended{protocol: websocket, body: r.Body}
	out := r.WithContext(context.WithValue(r.Context(), extendedKey{}, e))
	out.Method, out.Body, out.ContentLength = http.MethodGet, http.NoBody, 0
	out.Header = r.Header.Clone()
	for _, name := range []string{protocolField, "Content-Length", "Sec-Websocket-Key", "Sec-Websocket-Accept", "Expect"} {
		delete(out.Header, name)
	}
	// Of the same length, or letters beyond ASCII would fold to its own.
	if len(protocols) != 1 || len(protocols[0]) != len(websocket) || !strings.EqualFold(protocols[0], websocket) {
		return out, errProtocol
	}
	return out, nil
}

// extend answers an extended CONNECT, and from then on carries bytes both ways. asked
// is the request as the origin got it.
func (s *Server) extend(w http.ResponseWriter, asked *http.Request, res *http.Response, e *extended, x *exchange) {
	origin, ok := res.Body.(io.ReadWriteCloser)
	if !ok || !switched(asked, res) {
		x.reject(w, asked, errUpgrade)
		return
	}
	removeHopByHop(res.Header)
	delete(res.Header, "Sec-Websocket-Accept") // a key of HTTP/1.1's, and larder's
	delete(res.Header, "Content-Length")       // net/http would hold what is said to it
	h := w.Header()
	clear(h)
	copyHeader(h, res.Header, http.StatusOK)
	x.Status = http.StatusOK
	w.WriteHeader(x.Status)
	control := http.NewResponseController(w)
	if err := control.Flush(); err != nil {
		x.fail(context.Canceled)
		return
	}
	ctx, cancel, stall := newStall(asked.Context(), s.options.Upstream.options.IdleTimeout)
	defer cancel()
	defer whenOver(ctx, func() {
		_ = origin.Close()
		if errors.Is(context.Cause(ctx), errStalled) { // it may be the client that is waited for
			_ = control.SetWriteDeadline(aLongTimeAgo())
		}
	})()
	stall.begin()
	var up sync.WaitGroup
	var upErr error
	up.Go(func() { upErr = s.extendUp(origin, e.body, stall) }) // ends when the client's side does, or with the body below
	err := s.extendDown(w, control, origin, stall, x)
	_ = origin.Close()
	_ = e.body.Close()
	up.Wait()
	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err = errors.Join(err, upErr); err != nil {
		x.fail(err)
		abort(asked)
	}
}

// whenOver runs end once ctx is over. What it returns ends that, and waits for an end
// that is running: what it uses may be another's then.
func whenOver(ctx context.Context, end func()) func() {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		end()
	})
	return func() {
		if !stop() {
			<-ended
		}
	}
}

// switched reports whether the origin speaks the protocol now.
func switched(asked *http.Request, res *http.Response) bool {
	if res.ProtoMajor == 2 {
		return res.StatusCode/100 == 2
	}
	return res.StatusCode == http.StatusSwitchingProtocols &&
		strings.EqualFold(res.Header.Get("Upgrade"), asked.Header.Get("Upgrade")) &&
		res.Header.Get("Sec-Websocket-Accept") == acceptKey(asked.Header.Get("Sec-Websocket-Key"))
}

// extendUp carries what the client says. Its end is the end of that direction alone.
func (s *Server) extendUp(origin io.WriteCloser, client io.Reader, stall *stall) (err error) {
	defer contain(&err)
	buffer := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buffer)
	for {
		n, err := client.Read(*buffer)
		if n > 0 {
			if _, err := origin.Write((*buffer)[:n]); err != nil {
				return nil // the origin's side tells why
			}
			stall.moved()
		}
		if err == io.EOF {
			_ = halfClose(origin) // one that cannot be told so has said all there is in the protocol
			return nil
		}
		if err != nil {
			_ = origin.Close() // the client is gone, or the other direction has ended
			return nil
		}
	}
}

// extendDown carries what the origin says, each piece at once.
func (s *Server) extendDown(w io.Writer, control *http.ResponseController, origin io.Reader, stall *stall, x *exchange) error {
	buffer := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buffer)
	for {
		n, err := origin.Read(*buffer)
		if n > 0 {
			stall.moved()
			x.UpstreamBytes += int64(n)
			_, werr := w.Write((*buffer)[:n])
			if werr == nil {
				werr = control.Flush()
			}
			if werr != nil {
				return fmt.Errorf("%w: %w", context.Canceled, werr)
			}
			x.Bytes += int64(n)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// newSocketKey is a Sec-WebSocket-Key (RFC 6455, Section 4.1).
func newSocketKey() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.StdEncoding.EncodeToString(b[:])
}

// acceptKey is the answer to one (RFC 6455, Section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
