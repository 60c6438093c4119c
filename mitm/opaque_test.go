package mitm

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const partlyDenied = `
presets: none
default: tunnel
rules:
  - {name: no-secrets, hosts: ["a.test"], paths: ["/secret/**"], action: deny}
`

// TestPlainHTTPAfterCONNECTIsNoWayPastADenyRule: requests are judged one by one,
// on a connection that stays.
func TestPlainHTTPAfterCONNECTIsNoWayPastADenyRule(t *testing.T) {
	addr := plainOrigin(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "at ", r.RequestURI) })
	for _, c := range []struct {
		name, policy string
		pause        time.Duration // before the client speaks
		first        int           // bytes in the first segment
	}{
		{"a denied path", partlyDenied, 0, 0},
		{"default deny", "presets: none\ndefault: deny\nrules: [{name: r, hosts: [\"a.test\"], paths: [\"/open\"], action: pass}]\n", 0, 0},
		{"a client that waits", partlyDenied, 100 * time.Millisecond, 0},
		{"a client that dribbles", partlyDenied, 20 * time.Millisecond, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.policy, map[string]string{"a.test:80": addr}, nil,
				func(o *Options, _ *UpstreamOptions) { o.PeekTimeout = 30 * time.Millisecond })
			conn := w.dial()
			w.connect(conn, "a.test:80", 200)
			slow := &pausingConn{Conn: conn, after: c.first, pause: c.pause}
			r := bufio.NewReader(conn)
			for _, step := range []struct {
				target, host string
				status       int
			}{{"/secret/x", "a.test", 403}, {"/open", "a.test", 200}, {"/open", "b.test", 421}, {"/secret/y", "a.test:80", 403}, {"https://a.test/open", "a.test", 400}} {
				fmt.Fprintf(slow, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", step.target, step.host)
				res, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(res.Body)
				if res.StatusCode != step.status || step.status == 200 && string(body) != "at /open" {
					t.Errorf("%s: got %s %q, want %d", step.target, res.Status, body, step.status)
				}
				if x := w.exchange(); x.Status != step.status || x.Method != "GET" {
					t.Errorf("exchange %+v", x)
				}
			}
		})
	}
}

// TestWhatCannotBeReadIsRefusedWherePathsAreDenied: neither client nor origin
// gets a byte across.
func TestWhatCannotBeReadIsRefusedWherePathsAreDenied(t *testing.T) {
	reached := make(chan string, 16)
	addr := tcpOrigin(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "220 hello\r\n")
		b, _ := io.ReadAll(c)
		reached <- string(b)
	})
	for _, c := range []struct{ name, sent string }{
		{"an SSL 2 hello", "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + strings.Repeat("x", 40)},
		{"SSH", "SSH-2.0-client\r\n"},
		{"a space first", " GET / HTTP/1.1\r\n"},
		{"nothing, so that the origin speaks first", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, partlyDenied, map[string]string{"a.test:443": addr}, nil, func(o *Options, _ *UpstreamOptions) {
				o.PeekTimeout, o.KeepAlive = 20*time.Millisecond, 150*time.Millisecond
			})
			conn := w.dial()
			w.connect(conn, "a.test:443", 200)
			_, _ = io.WriteString(conn, c.sent)
			if b, _ := io.ReadAll(conn); len(b) != 0 {
				t.Errorf("got %q", b)
			}
			if x := w.exchange(); c.sent != "" && (x.Class != ClassDeny || x.Rule != "no-secrets" || x.Err != errOpaque.Error()) || x.Class == ClassTunnel {
				t.Errorf("exchange %+v", x)
			}
			select {
			case b := <-reached:
				t.Errorf("the origin got %q", b)
			default:
			}
		})
	}
}
