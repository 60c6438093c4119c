package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRecordOfARun(t *testing.T) {
	for _, asked := range []bool{true, false} {
		begun := make(chan struct{})
		serve := func(l net.Listener, _ func(Exchange)) error {
			if p, ok := l.(Recorded); !ok || p.Recorded() != asked {
				t.Errorf("asked %v: %T says otherwise", asked, l)
			} else if asked {
				p.Keep(strings.NewReader("the record"))
			}
			close(begun)
			_, err := l.Accept()
			return err
		}
		run, err := openRun(RunRequest{HAR: asked}, t.TempDir(), newGuard(0), serve, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		<-begun
		c := &control{register: newRegister(0)}
		if err := c.register.add(run); err != nil {
			t.Fatal(err)
		}
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.SetPathValue("id", run.id)
			c.har(w, r)
		}))
		var b bytes.Buffer
		client := s.Client()
		client.Transport.(*http.Transport).DialContext = nil
		r := &Run{ID: run.id, http: &http.Client{Transport: rewriting{s.URL, client.Transport}}}
		err = r.HAR(t.Context(), &b)
		if asked && (err != nil || b.String() != "the record") || !asked && !errors.Is(err, ErrLost) {
			t.Errorf("asked %v: %v, %q", asked, err, b.String())
		}
		s.Close()
		run.close()
	}
}

// rewriting sends every request to one server.
type rewriting struct {
	to   string
	next http.RoundTripper
}

func (w rewriting) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host = "http", strings.TrimPrefix(w.to, "http://")
	return w.next.RoundTrip(out)
}
