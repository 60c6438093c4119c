package ca

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

const day = 24 * time.Hour

func TestIntermediateIsRenewedWellBeforeItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Options{PermittedDNS: []string{"example.org"}})
		first := a.Issuing()
		time.Sleep(issuingLifetime / 2)
		leaf(t, a, "a.example.org")
		if a.Issuing() != first {
			t.Error("renewed in the middle of its life")
		}
		time.Sleep(issuingLifetime / 5)
		cert := leaf(t, a, "b.example.org")
		second := a.Issuing()
		if left := time.Until(first.NotAfter); second == first || left < 90*day {
			t.Errorf("not renewed, or with only %v left", left)
		}
		if string(cert.Certificate[1]) != string(second.Raw) {
			t.Error("the chain of a new leaf has the older intermediate")
		}
		if err := verify(a, cert, "b.example.org"); err != nil {
			t.Error(err)
		}
		if string(first.RawSubjectPublicKeyInfo) == string(second.RawSubjectPublicKeyInfo) {
			t.Error("the new intermediate has the key of the older one")
		}
		again := open(t, Options{Dir: a.dir, PermittedDNS: []string{"example.org"}})
		if !again.Issuing().Equal(second) {
			t.Error("the new intermediate is not the one on disk")
		}
	})
}

func TestIntermediateThatCannotBeRenewedServesToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Options{})
		key := filepath.Join(a.dir, "root.key")
		if err := os.Rename(key, key+".away"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(issuingLifetime * 9 / 10)
		if err := verify(a, leaf(t, a, "a.example.org"), "a.example.org"); err != nil {
			t.Error(err)
		}
		if got := open(t, Options{Dir: a.dir}).Issuing(); !got.Equal(a.Issuing()) {
			t.Error("Open does not serve with what there is")
		}
		// The key is back, and the next attempt is due after the pause.
		if err := os.Rename(key+".away", key); err != nil {
			t.Fatal(err)
		}
		before := a.Issuing()
		leaf(t, a, "b.example.org")
		if a.Issuing() != before {
			t.Error("no pause between attempts")
		}
		time.Sleep(renewalPause)
		leaf(t, a, "c.example.org")
		if a.Issuing() == before {
			t.Error("no second attempt")
		}
	})
}

func TestExpiredIntermediateSignsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Options{})
		key := filepath.Join(a.dir, "root.key")
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		time.Sleep(issuingLifetime + day)
		if cert, err := a.Leaf(t.Context(), "example.org"); err == nil {
			t.Errorf("leaf until %v", cert.Leaf.NotAfter)
		}
		if _, err := Open(Options{Dir: a.dir}); err == nil {
			t.Error("Open without an intermediate that serves")
		}
	})
}

func TestExpiredIntermediateIsReplacedAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Options{})
		time.Sleep(3 * issuingLifetime)
		b := open(t, Options{Dir: a.dir})
		if err := verify(b, leaf(t, b, "example.org"), "example.org"); err != nil {
			t.Error(err)
		}
	})
}

func TestIntermediateEndsNoLaterThanTheRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Options{})
		time.Sleep(rootLifetime - 30*day)
		b := open(t, Options{Dir: a.dir})
		if b.Issuing().NotAfter.After(b.Root().NotAfter) {
			t.Errorf("intermediate ends %v, root %v", b.Issuing().NotAfter, b.Root().NotAfter)
		}
		if err := verify(b, leaf(t, b, "example.org"), "example.org"); err != nil {
			t.Error(err)
		}
		time.Sleep(31 * day)
		if _, err := Open(Options{Dir: a.dir}); err == nil {
			t.Error("an expired root is opened")
		}
	})
}

func TestPermit(t *testing.T) {
	a := open(t, Options{PermittedDNS: []string{"example.org"}})
	first, cached := a.Issuing(), leaf(t, a, "example.org")
	permit := func(dns ...string) {
		t.Helper()
		if err := a.Permit(dns); err != nil {
			t.Fatal(err)
		}
	}
	permit("files.example.org")
	if a.Issuing() != first {
		t.Error("replaced although it allows more")
	}
	permit("example.org", "other.test")
	if a.Issuing() == first {
		t.Fatal("not replaced although it allows less")
	}
	if err := verify(a, leaf(t, a, "other.test"), "other.test"); err != nil {
		t.Error(err)
	}
	if leaf(t, a, "example.org") != cached || verify(a, cached, "example.org") != nil {
		t.Error("older leaves with the older intermediate do not serve on")
	}
	second := a.Issuing()
	if err := a.Permit([]string{"a b"}); err == nil || a.Issuing() != second {
		t.Errorf("a bad name: %v", err)
	}
	if err := a.Permit(nil); err != nil {
		t.Fatal(err)
	}
	leaf(t, a, "192.0.2.7")
}

func TestNarrowerPolicyHoldsFromTheNextRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Options{PermittedDNS: []string{"example.org", "other.test"}})
		if err := a.Permit([]string{"example.org"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(issuingLifetime * 3 / 4)
		leaf(t, a, "example.org")
		if cert, err := a.Leaf(t.Context(), "other.test"); err == nil {
			t.Errorf("the new intermediate signs for %v", cert.Leaf.DNSNames)
		}
	})
}

// TestTwoAuthoritiesShareAFolder has one adopt what the other has renewed.
func TestTwoAuthoritiesShareAFolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Options{})
		b := open(t, Options{Dir: a.dir})
		time.Sleep(issuingLifetime * 3 / 4)
		leaf(t, a, "example.org")
		leaf(t, b, "example.org")
		if !a.Issuing().Equal(b.Issuing()) {
			t.Error("each renews for itself")
		}
	})
}
