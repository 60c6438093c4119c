package mitm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// upgrade answers a 101 and from then on carries bytes both ways (RFC 9110,
// Section 7.8).
func (s *Server) upgrade(w http.ResponseWriter, out *http.Request, res *http.Response, x *exchange) {
	origin, ok := res.Body.(io.ReadWriteCloser)
	asked := upgradeOf(1, out.Header)
	if !ok || asked == "" || !strings.EqualFold(asked, res.Header.Get("Upgrade")) {
		x.reject(w, out, errUpgrade)
		return
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		x.reject(w, out, fmt.Errorf("take over the connection for an upgrade: %w", err))
		return
	}
	defer client.Close()
	unframed(client)
	protocol := res.Header.Get("Upgrade")
	removeHopByHop(res.Header)
	res.Header["Connection"] = []string{"Upgrade"}
	res.Header["Upgrade"] = []string{protocol}
	x.Status = res.StatusCode
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %s\r\n", statusLine(res))
	_ = res.Header.Write(&head) // a buffer takes everything
	head.WriteString("\r\n")
	if _, err := client.Write(head.Bytes()); err != nil {
		x.fail(context.Canceled)
		return
	}
	early, err := buffered.Peek(buffered.Reader.Buffered())
	if err == nil && len(early) > 0 {
		_, err = origin.Write(early)
	}
	if err != nil {
		x.fail(err)
		return
	}
	up, down, err := splice(client, origin)
	x.Bytes, x.UpstreamBytes = up+int64(len(early))+down, down
	if err != nil {
		x.fail(err)
	}
}

func statusLine(res *http.Response) string {
	if res.Status != "" {
		return res.Status
	}
	return fmt.Sprintf("%03d %s", res.StatusCode, http.StatusText(res.StatusCode))
}

// splice copies both ways until both have ended, handing each end on as a
// half-close where that can be said and else closing both. Its error is a panic.
func splice(client net.Conn, origin io.ReadWriteCloser) (up, down int64, err error) {
	half := func(to io.Writer, from io.Reader, n *int64) (err error) {
		ended := false
		defer func() {
			if !ended {
				_ = client.Close()
				_ = origin.Close()
			}
		}()
		defer contain(&err)
		var broke error
		*n, broke = io.Copy(to, from)
		ended = broke == nil && halfClose(to) == nil
		return nil
	}
	var both sync.WaitGroup
	var upErr error
	both.Go(func() { upErr = half(origin, client, &up) }) // ends when the client's side does, or origin is closed
	err = half(client, origin, &down)
	both.Wait()
	return up, down, errors.Join(upErr, err)
}

func halfClose(c any) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return io.ErrClosedPipe
}
