package cache

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestResumptionBacksOff: an upstream that does not come back is asked less and less
// often, and then no more.
func TestResumptionBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []time.Time
		c := &Cache{
			upstream: roundTripFunc(func(*http.Request) (*http.Response, error) {
				asked = append(asked, time.Now())
				return nil, errors.New("out of order")
			}),
			idle: time.Minute, now: time.Now, metrics: newMetrics(nil), log: slog.New(slog.DiscardHandler),
		}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://a.test/x", nil)
		r := resumption{f: &fill{c: c, ctx: t.Context(), sent: req, rule: immutable, spool: newSpool(nil, always), log: c.log}, total: 10}
		broken := &readError{io.ErrUnexpectedEOF}
		last := time.Now()
		if _, err := r.next(broken); err != broken { //nolint:errorlint // the very same
			t.Errorf("error %v, want the one that was to be mended", err)
		}
		if len(asked) != maxResumes {
			t.Fatalf("asked %d times, want %d", len(asked), maxResumes)
		}
		for i, at := range asked {
			most := firstDelay << i
			if d := at.Sub(last); d < most/2 || d > most {
				t.Errorf("pause %d is %v, want %v to %v", i+1, d, most/2, most)
			}
			last = at
		}
	})
}

// TestResumptionIsBounded: an origin that gives a little each time is not asked for ever.
func TestResumptionIsBounded(t *testing.T) {
	body := noise((maxTries + 8) * progress)
	var asked atomic.Int64
	w := newH1World(t, immutable, Options{}, func(r *h1request) {
		asked.Add(1)
		from := r.wanted(body, faultTag)
		r.conn.Write(body[from : from+progress])
	})
	cutOff(t, w)
	if n := asked.Load(); n != 1+maxTries {
		t.Errorf("asked %d times, want %d", n, 1+maxTries)
	}
}
