package admin

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
)

// fakeCapturer ends at once and notes what it was asked for.
type fakeCapturer struct {
	asked []string
	err   error
}

func (f *fakeCapturer) Capture(ctx context.Context, clients netip.Prefix) (io.WriterTo, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		return nil, errors.New("no end")
	}
	f.asked = append(f.asked, clients.String())
	return strings.NewReader("record of " + clients.String()), f.err
}

func TestCapture(t *testing.T) {
	f := &fakeCapturer{}
	h := New(Options{Capturer: f, Token: "0123456789abcdef"})
	const token = "Bearer 0123456789abcdef"
	for _, c := range []struct {
		target string
		status int
		body   string
	}{
		{"/api/v1/har?client=10.0.0.7", 200, "record of 10.0.0.7/32"},
		{"/api/v1/har?client=::ffff:10.0.0.7&for=5s", 200, "record of 10.0.0.7/32"},
		{"/api/v1/har?client=10.0.0.7/8", 200, "record of 10.0.0.0/8"},
		{"/api/v1/har?client=fd00::7&for=10m", 200, "record of fd00::7/128"},
		{"/api/v1/har", 400, "client is no address"},
		{"/api/v1/har?client=here", 400, "client is no address"},
		{"/api/v1/har?client=10.0.0.0/33", 400, "client is no address"},
		{"/api/v1/har?client=10.0.0.7&for=soon", 400, "for is no duration"},
		{"/api/v1/har?client=10.0.0.7&for=11m", 400, "at most"},
		{"/api/v1/har?client=10.0.0.7&for=-1s", 400, "at most"},
	} {
		got := ask(t, h, "GET", c.target, "Authorization", token)
		if got.Code != c.status || !strings.Contains(got.Body.String(), c.body) {
			t.Errorf("%s: %d %s", c.target, got.Code, got.Body)
		}
	}
	if got := ask(t, h, "GET", "/api/v1/har?client=10.0.0.7"); got.Code != 401 {
		t.Errorf("without the token: %d", got.Code)
	}
	f.err = errors.New("too many captures")
	if got := ask(t, h, "GET", "/api/v1/har?client=10.0.0.7", "Authorization", token); got.Code != 503 || !strings.Contains(got.Body.String(), "too many") {
		t.Errorf("too many: %d %s", got.Code, got.Body)
	}
	if len(f.asked) != 5 {
		t.Errorf("captured %q", f.asked)
	}
}
