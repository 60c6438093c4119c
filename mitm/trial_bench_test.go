package mitm

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"larder/policy"
)

// BenchmarkTrusted is what following a connection to its first byte costs, beside a
// handshake of some 200 microseconds.
func BenchmarkTrusted(b *testing.B) {
	m, err := newMetrics(nil)
	if err != nil {
		b.Fatal(err)
	}
	s := &Server{metrics: m}
	s.distrust = newRegister(Options{Logger: slog.New(slog.DiscardHandler)}, m)
	c := &clientConn{server: s, authority: authority{"a.test", 443}, asker: policy.Client{Addr: netip.MustParseAddr("10.0.3.7")}}
	flight := helloOf(b, &tls.Config{ServerName: "a.test", NextProtos: []string{"h2", "http/1.1"}})
	b.ReportAllocs()
	for b.Loop() {
		t := &trial{server: s, client: c, x: &exchange{ended: true}, flight: flight, opened: time.Now()}
		c.trial.Store(t)
		c.trusted()
	}
}
