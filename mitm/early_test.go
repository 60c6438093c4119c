package mitm

import (
	"bufio"
	"io"
	"net/http"
	"testing"

	"larder/policy"
)

// TestConnectDialsOnceHoweverItFails: the dial is tried before net/http has the
// request, which then has to answer for it and not to try again.
func TestConnectDialsOnceHoweverItFails(t *testing.T) {
	p := &parentProxy{t: t, answer: func(string) string {
		return "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
	}}
	at := p.start("http", nil)
	w := newWorld(t, "default: tunnel", nil, nil, func(_ *Options, u *UpstreamOptions) { u.Parents = []policy.Parent{through(t, at, nil)} })
	c := w.dial()
	r := bufio.NewReader(c)
	for asked := 1; asked < 3; asked++ { // the second one on the connection is net/http's alone
		head := ask(t, c, r, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
		mustContain(t, "CONNECT", head, "HTTP/1.1 502 ", "Proxy-Status: larder;error=")
		if got := p.asked(); len(got) != asked {
			t.Fatalf("the parent was asked %q after %d CONNECTs", got, asked)
		}
	}
}

// TestConnectKeepsWhatCameBehindIt: a client need not wait for the answer.
func TestConnectKeepsWhatCameBehindIt(t *testing.T) {
	roots := newAuthorityKey(t, "origins")
	origin := plainOrigin(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.URL.Path)) })
	w := newWorld(t, "default: tunnel", map[string]string{"a.test:8000": origin}, roots)
	c := w.dial()
	r := bufio.NewReader(c)
	head := ask(t, c, r, "CONNECT a.test:8000 HTTP/1.1\r\nHost: a.test:8000\r\n\r\nGET /early HTTP/1.1\r\nHost: a.test\r\n\r\n")
	mustContain(t, "CONNECT", head, established[:12])
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); string(body) != "/early" || err != nil {
		t.Errorf("got %q, %v", body, err)
	}
}
