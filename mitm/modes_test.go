package mitm

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestWhatReportsIsLetThroughLoggedAndCounted, on every way that a request may go.
func TestWhatReportsIsLetThroughLoggedAndCounted(t *testing.T) {
	roots := newAuthorityKey(t, "public")
	addr := tlsOrigin(t, roots, false, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, "a.test", "b.test", "c.test")
	var log strings.Builder
	registry := prometheus.NewRegistry()
	w := newWorld(t, `
presets: none
default: deny
default_mode: report
rules:
  - {name: staged, hosts: [a.test], paths: ["/new/**"], action: deny, mode: report}
  - {name: off, hosts: [a.test], paths: ["/off/**"], action: deny, mode: open}
  - {name: enforced, hosts: [a.test], paths: ["/no/**"], action: deny}
  - {name: elsewhere, hosts: [b.test], clients: [192.0.2.0/24], action: deny}
  - {name: known, hosts: [a.test, b.test], action: pass}
`, map[string]string{"a.test:443": addr, "b.test:443": addr, "c.test:443": addr}, roots, func(o *Options, _ *UpstreamOptions) {
		o.Registerer = registry
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	c := w.client(false)
	c.Transport.(*http.Transport).TLSClientConfig.RootCAs.AddCert(roots.cert) // of the tunnel
	for _, x := range []struct {
		url, rule, reported string
		status              int
	}{
		{"https://a.test/", "known", "", 200},
		{"https://a.test/new/x", "known", "staged", 200},
		{"https://a.test/off/x", "known", "", 200},
		{"https://a.test/no/x", "enforced", "", 403},
		{"https://b.test/", "known", "", 200}, // denied elsewhere
	} {
		res, err := c.Get(x.url)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if e := <-w.exchanges; res.StatusCode != x.status || e.Rule != x.rule || e.Reported != x.reported {
			t.Errorf("%s: %s, %+v", x.url, res.Status, e)
		}
	}
	res, err := c.Get("https://c.test/")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	c.CloseIdleConnections()
	if e := <-w.exchanges; e.Class != ClassTunnel || e.Reported != "default" {
		t.Errorf("a tunnel that the default would refuse: %+v", e)
	}
	m := w.server.metrics.denials
	for _, x := range []struct {
		rule, mode string
		want       float64
	}{{"staged", "report", 1}, {"off", "open", 1}, {"enforced", "enforce", 1}, {"default", "report", 1}} {
		if got := testutil.ToFloat64(m.WithLabelValues(x.rule, x.mode)); got != x.want {
			t.Errorf("%+v: %v", x, got)
		}
	}
	_ = w.server.Shutdown(t.Context())
	for _, want := range []string{"would_deny=staged", "would_deny=default"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "would_deny=off") {
		t.Errorf("an open rule is logged:\n%s", log.String())
	}
}
