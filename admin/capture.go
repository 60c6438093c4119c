package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Capturer records what the requests of some clients, and the responses to them, say
// about themselves.
type Capturer interface {
	// Capture records the requests of clients within a network until ctx is done, and
	// returns what writes the record as HAR. Safe for concurrent use.
	Capture(ctx context.Context, clients netip.Prefix) (io.WriterTo, error)
}

const (
	// defaultCapture and maxCapture are how long a capture lasts.
	defaultCapture = 30 * time.Second
	maxCapture     = 10 * time.Minute
)

// capture answers GET /api/v1/har?client=NETWORK&for=DURATION once that is over.
func (h *handler) capture(w http.ResponseWriter, r *http.Request) {
	clients, long, err := captureOf(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err, "ask for /api/v1/har?client=10.0.0.7&for=30s")
		return
	}
	control := http.NewResponseController(w)
	// Writers that are no connection know no deadline.
	_ = control.SetWriteDeadline(time.Now().Add(long + time.Minute))
	ctx, cancel := context.WithTimeout(r.Context(), long)
	defer cancel()
	record, err := h.o.Capturer.Capture(ctx, clients)
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err, "")
		return
	}
	if r.Context().Err() != nil {
		return // nobody is there for it
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := record.WriteTo(w); err != nil {
		panic(http.ErrAbortHandler) // the status is out: only this tells a part from the whole
	}
}

func captureOf(r *http.Request) (clients netip.Prefix, long time.Duration, err error) {
	q := r.URL.Query()
	text := q.Get("client")
	if strings.Contains(text, "/") {
		clients, err = netip.ParsePrefix(text)
	} else {
		var addr netip.Addr
		addr, err = netip.ParseAddr(text)
		clients = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
	}
	if err != nil {
		return clients, 0, fmt.Errorf("client is no address or network: %w", err)
	}
	long = defaultCapture
	if text := q.Get("for"); text != "" {
		if long, err = time.ParseDuration(text); err != nil {
			return clients, 0, fmt.Errorf("for is no duration: %w", err)
		}
	}
	if long <= 0 || long > maxCapture {
		return clients, 0, errors.New("for must be more than nothing and at most " + maxCapture.String())
	}
	return clients.Masked(), long, nil
}
