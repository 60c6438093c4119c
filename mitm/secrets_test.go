package mitm

import (
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"testing"
)

// TestCredentialsInTargetsStayOutOfLogAccountAndAnswer, wherever a client may
// put them by mistake.
func TestCredentialsInTargetsStayOutOfLogAccountAndAnswer(t *testing.T) {
	for _, head := range []string{
		"CONNECT user:hunter2@a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n",
		"CONNECT https://user:hunter2@a.test/hunter2?hunter2 HTTP/1.1\r\nHost: a.test:443\r\n",
		"CONNECT a.test:443/hunter2 HTTP/1.1\r\nHost: a.test:443\r\n",
		"CONNECT a.test:443?hunter2 HTTP/1.1\r\nHost: a.test:443\r\n",
		"GET http://user:hunter2@a.test/ HTTP/1.1\r\nHost: a.test\r\n",
		"GET http://a.test:x/ HTTP/1.1\r\nHost: user:hunter2@a.test\r\n",
		"GET http://a.test/?hunter2#hunter2 HTTP/1.1\r\nHost: a.test\r\n",
	} {
		var log strings.Builder
		w := newWorld(t, passEverything, nil, nil, func(o *Options, _ *UpstreamOptions) {
			o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		c := w.dial()
		fmt.Fprintf(c, "%sConnection: close\r\n\r\n", head)
		answer, _ := io.ReadAll(c)
		if !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") || strings.Contains(string(answer), "hunter2") {
			t.Errorf("%q is answered %q", head, answer)
		}
		select {
		case x := <-w.exchanges:
			if s := fmt.Sprintf("%+v", x); strings.Contains(s, "hunter2") {
				t.Errorf("%q: exchange %s", head, s)
			}
		default: // net/http refused it
		}
		_ = w.server.Shutdown(t.Context())
		if strings.Contains(log.String(), "hunter2") {
			t.Errorf("%q is logged as %s", head, log.String())
		}
	}
	if got := loggable(&url.URL{Path: "/x"}, "user:hunter2@a.test"); got != "a.test/x" {
		t.Errorf("a Host with user information is logged as %s", got)
	}
	for _, s := range []string{"u:hunter2@a.test:1", "a.test:1/hunter2", "a.test?hunter2", "hunter2@", "a@hunter2:0:0"} {
		if _, err := parseAuthority(s, 0); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", s, err)
		}
	}
}
