package mitm

import (
	"fmt"
	"net/http"
	"testing"
)

func TestPassIsAnsweredByTheOriginInEveryPairing(t *testing.T) {
	for _, clientH2 := range []bool{false, true} {
		for _, originH2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("client h2=%v origin h2=%v", clientH2, originH2), func(t *testing.T) {
				roots := newAuthorityKey(t, "origins")
				addr := tlsOrigin(t, roots, originH2, func(w http.ResponseWriter, r *http.Request) {
					fmt.Fprintf(w, "%s %s %s %s", r.Proto, r.Method, r.Host, r.RequestURI)
				}, "a.test")
				w := newWorld(t, passEverything, map[string]string{"a.test:443": addr}, roots)
				res, body := get(t, w.client(clientH2), "https://a.test/x%2Fy//z;v=1/../q?")
				want := "HTTP/1.1 GET a.test /x%2Fy//z;v=1/../q?"
				if originH2 {
					want = "HTTP/2.0 GET a.test /x%2Fy//z;v=1/../q?"
				}
				if body != want {
					t.Errorf("origin saw %q, want %q", body, want)
				}
				if got := res.ProtoMajor == 2; got != clientH2 {
					t.Errorf("client spoke %s", res.Proto)
				}
				x := w.exchange()
				if x.Class != ClassPass || x.Status != 200 || x.URL != "https://a.test/x%2Fy//z;v=1/../q" ||
					x.Bytes != int64(len(body)) || x.UpstreamBytes != x.Bytes || x.Rule != "all" || len(x.SHA256) != 64 {
					t.Errorf("exchange: %+v", x)
				}
			})
		}
	}
}

func TestHeadHasNoDigest(t *testing.T) {
	w := passing(t, false, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "5") })
	res, err := w.client(false).Head("https://a.test/")
	if err != nil || res.ContentLength != 5 {
		t.Fatalf("HEAD: %v, %v", res, err)
	}
	if x := w.exchange(); x.SHA256 != "" || x.Status != 200 {
		t.Errorf("exchange %+v", x)
	}
}
