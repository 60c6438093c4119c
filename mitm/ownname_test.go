package mitm

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"larder/policy"
)

const ownName = "larder.internal"

// newOwnWorld is a world under whose own name says how it was reached. Its policy
// denies everything.
func newOwnWorld(t *testing.T, change ...func(*Options, *UpstreamOptions)) *world {
	t.Helper()
	change = append([]func(*Options, *UpstreamOptions){func(o *Options, _ *UpstreamOptions) {
		o.OwnName = ownName
		o.Origin = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %+v", r.URL.Path, ReachOf(r))
		})
	}}, change...)
	return newWorld(t, "presets: none\ndefault: deny\nrules: [{name: all, hosts: [\"*\"], action: deny}]\n", nil, nil, change...)
}

func TestOwnNameTellsHowItWasReached(t *testing.T) {
	w := newOwnWorld(t)
	for _, c := range []struct {
		name   string
		client *http.Client
		url    string
		want   string
	}{
		{"directly", http.DefaultClient, "http://" + w.addr + "/doctor", "/doctor {Proxied:false TLS:false}"},
		{"through the proxy", w.client(false), "http://larder.internal/doctor", "/doctor {Proxied:true TLS:false}"},
		{"on another port", w.client(false), "http://LARDER.internal:8080/doctor", "/doctor {Proxied:true TLS:false}"},
		{"opened", w.client(false), "https://larder.internal/doctor", "/doctor {Proxied:true TLS:true}"},
		{"opened, HTTP/2", w.client(true), "https://larder.internal/doctor", "/doctor {Proxied:true TLS:true}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 2 { // also on a connection that is kept
				if res, body := get(t, c.client, c.url); res.StatusCode != 200 || body != c.want {
					t.Errorf("%s %q, want %q", res.Status, body, c.want)
				}
			}
		})
	}
	select {
	case x := <-w.exchanges:
		t.Errorf("it is counted as traffic: %+v", x)
	default:
	}
}

// TestOwnNameIsNoWayAnywhere asks for it in ways that would go upstream for a host
// whose bytes are not understood, and for other hosts under it.
func TestOwnNameIsNoWayAnywhere(t *testing.T) {
	w := newOwnWorld(t, func(o *Options, _ *UpstreamOptions) { o.Policy = parsePolicy(t, "presets: none\n") }) // default: tunnel
	c := w.dial()
	w.connect(c, ownName+":22", 200)
	_, _ = io.WriteString(c, "SSH-2.0-x\r\n")
	if b, _ := io.ReadAll(c); len(b) > 0 {
		t.Errorf("an answer to what is no TLS: %q", b)
	}
	if x := w.exchange(); x.Class != ClassDeny {
		t.Errorf("what is neither TLS nor HTTP: %+v", x)
	}
	c = w.dial()
	w.connect(c, ownName+":80", 200)
	fmt.Fprintf(c, "GET /in HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", ownName)
	if b, _ := io.ReadAll(c); !strings.Contains(string(b), "/in {Proxied:true TLS:false}") {
		t.Errorf("plain HTTP behind CONNECT: %q", b)
	}
	o := w.open(ownName+":443", ownName)
	defer o.Close()
	fmt.Fprint(o, "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(o), nil)
	if err != nil || res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("another host under larder's own name: %v %v", res, err)
	}
}

func TestOwnNameAsksForCredentialsAsEverythingDoes(t *testing.T) {
	w := newOwnWorld(t, func(o *Options, _ *UpstreamOptions) { o.Access = Access{Required: true} })
	if res, _ := get(t, w.client(false), "http://larder.internal/"); res.StatusCode != http.StatusForbidden {
		t.Errorf("http: %s", res.Status)
	}
	if _, err := w.client(false).Get("https://larder.internal/"); err == nil || !strings.Contains(err.Error(), "Forbidden") {
		t.Errorf("https: %v", err)
	}
}

func TestOwnNameOverOtherEntrances(t *testing.T) {
	w := newOwnWorld(t)
	over := w.enter(Entrance{Mode: policy.ListenTLSProxy, TLS: w.proxyTLS(ProxyTLSOptions{Names: []string{"127.0.0.1"}})})
	socks := w.enter(Entrance{Mode: policy.ListenSOCKS5})
	client := func(proxy string) *http.Client {
		u, err := url.Parse(proxy)
		if err != nil {
			t.Fatal(err)
		}
		tr := &http.Transport{Proxy: http.ProxyURL(u), TLSClientConfig: &tls.Config{RootCAs: w.larder}}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	for _, c := range []struct{ proxy, url, want string }{
		{"https://" + over, "https://larder.internal/", "/ {Proxied:true TLS:true}"},
		{"https://" + over, "http://larder.internal/", "/ {Proxied:true TLS:false}"},
		{"socks5h://" + socks, "https://larder.internal/", "/ {Proxied:true TLS:true}"},
		{"socks5h://" + socks, "http://larder.internal/", "/ {Proxied:true TLS:false}"},
	} {
		if res, body := get(t, client(c.proxy), c.url); res.StatusCode != 200 || body != c.want {
			t.Errorf("%s by %s: %s %q, want %q", c.url, c.proxy, res.Status, body, c.want)
		}
	}
	direct := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.larder}}}
	defer direct.CloseIdleConnections()
	if _, body := get(t, direct, "https://"+over+"/"); body != "/ {Proxied:false TLS:true}" {
		t.Errorf("as an origin over TLS: %q", body)
	}
}
