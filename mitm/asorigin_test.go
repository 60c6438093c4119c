package mitm

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"larder/policy"
)

// TestAddressedAsAnOrigin wants requests to larder itself answered without
// credentials, told whether they came over TLS, and no way to them through larder.
func TestAddressedAsAnOrigin(t *testing.T) {
	w := newWorld(t, passEverything, nil, nil, func(o *Options, _ *UpstreamOptions) {
		o.Access = Access{Required: true}
		o.Origin = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s, TLS %v", r.Host, r.RequestURI, r.TLS != nil)
		})
	})
	over := w.enter(Entrance{Mode: policy.ListenTLSProxy, TLS: w.proxyTLS(ProxyTLSOptions{Names: []string{"127.0.0.1"}})})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.larder}}}
	defer client.CloseIdleConnections()
	for url, want := range map[string]string{
		"http://" + w.addr + "/a%20b?c":  w.addr + " /a%20b?c, TLS false",
		"https://" + over + "/a%20b?c":   over + " /a%20b?c, TLS true",
		"http://" + w.addr + "//other/x": w.addr + " //other/x, TLS false",
	} {
		resp, body := get(t, client, url)
		if resp.StatusCode != 200 || body != want {
			t.Errorf("%s: %d %q, want %q", url, resp.StatusCode, body, want)
		}
	}
}

func TestNoWayThroughLarderToItself(t *testing.T) {
	w := newWorld(t, passEverything, nil, nil, func(o *Options, _ *UpstreamOptions) {
		o.Origin = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the origin was asked") })
	})
	resp, body := get(t, w.client(false), "http://"+w.addr+"/ca.pem")
	if resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "larder") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}
