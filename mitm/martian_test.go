package mitm

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/martian/v3/header"
)

// TestHopByHopFieldsAreThoseOfMartian: what every message loses, without ever
// entering martian, is what martian's own modifier would take off it.
func TestHopByHopFieldsAreThoseOfMartian(t *testing.T) {
	for _, h := range []http.Header{
		{},
		{"A": {"1", "2"}},
		{"Connection": {"close, X-One", " x-two ,"}, "X-One": {"1"}, "X-Two": {"2"}, "X-Three": {"3"}},
		{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Te": {"trailers"}, "Trailer": {"X"}},
		{"Keep-Alive": {"timeout=5"}, "Proxy-Connection": {"keep-alive"}, "Proxy-Authenticate": {"Basic"}, "Proxy-Authorization": {"Basic x"}, "Transfer-Encoding": {"chunked"}},
	} {
		want := h.Clone()
		if err := header.NewHopByHopModifier().ModifyRequest(&http.Request{Header: want}); err != nil {
			t.Fatal(err)
		}
		got := h.Clone()
		removeHopByHop(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v (-martian +larder):\n%s", h, diff)
		}
	}
}
