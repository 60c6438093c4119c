package ca

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestNewNamesOfAClientAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Options{NewNames: 60})
		ask := func(client string, n int) error {
			ctx := WithClient(context.Background(), netip.MustParseAddr(client))
			_, err := a.Leaf(ctx, fmt.Sprintf("host%d.example.org", n))
			return err
		}
		for n := range 60 {
			if err := ask("10.0.0.1", n); err != nil {
				t.Fatalf("name %d: %v", n, err)
			}
		}
		limit, ok := errors.AsType[*LimitError](ask("10.0.0.1", 60))
		if !ok || limit.Client.String() != "10.0.0.1" || limit.Limit != 60 {
			t.Errorf("name 60: %+v", limit)
		}
		if got := testutil.ToFloat64(a.metrics.limited); got != 1 {
			t.Errorf("%v refusals counted", got)
		}
		// Names that are in memory cost nothing, and others have their own share.
		if err := ask("::ffff:10.0.0.1", 59); err != nil {
			t.Errorf("a name of before: %v", err)
		}
		if err := ask("10.0.0.2", 60); err != nil {
			t.Errorf("another client: %v", err)
		}
		if err := ask("10.0.0.1", 60); err != nil {
			t.Errorf("a name that another client has asked for: %v", err)
		}
		if _, err := a.Leaf(context.Background(), "host61.example.org"); err != nil {
			t.Errorf("on behalf of nobody: %v", err)
		}
		time.Sleep(time.Second)
		if err := errors.Join(ask("10.0.0.1", 62)); err != nil {
			t.Errorf("after a second: %v", err)
		}
		if err := ask("10.0.0.1", 63); err == nil {
			t.Error("a second name after a second")
		}
	})
}

func TestClientsAreCountedByWhatOneMachineHas(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"10.0.0.1", "::ffff:10.0.0.1", true},
		{"10.0.0.1", "10.0.0.2", false},
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", true},
	} {
		a, _ := clientOf(WithClient(t.Context(), netip.MustParseAddr(tt.a)))
		b, _ := clientOf(WithClient(t.Context(), netip.MustParseAddr(tt.b)))
		if (a == b) != tt.same {
			t.Errorf("%s and %s: %v, %v", tt.a, tt.b, a, b)
		}
	}
	for _, none := range []netip.Addr{{}, netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()} {
		if _, ok := clientOf(WithClient(t.Context(), none)); ok {
			t.Errorf("%v is a client", none)
		}
	}
}

func TestTableOfClientsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newClientLimits(60)
		ask := func(i int) error {
			ctx := WithClient(context.Background(), netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
			err := l.check(ctx, time.Now())
			l.count(ctx, time.Now())
			return err
		}
		for i := range maxClients {
			ask(i)
		}
		var refused int
		for i := range 100 {
			if ask(maxClients+i) != nil {
				refused++
			}
		}
		if len(l.clients) != maxClients || refused != 40 {
			t.Errorf("%d clients in the table, %d of 100 further refused, want 40", len(l.clients), refused)
		}
		time.Sleep(2 * time.Second) // all have their share back
		ask(2 * maxClients)
		if len(l.clients) != 1 {
			t.Errorf("%d clients are remembered", len(l.clients))
		}
	})
}
