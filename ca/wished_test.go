package ca

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

const ownName = "larder.internal"

func wishing(dir string) Options {
	return Options{Dir: dir, PermittedDNS: []string{"example.org"}, WishedDNS: []string{ownName}}
}

// TestWishedNamesAreHadWhereTheyCanBe opens authorities that were made without the
// wish: with the root's key at hand, and without.
func TestWishedNamesAreHadWhereTheyCanBe(t *testing.T) {
	a := open(t, wishing(""))
	for _, name := range []string{"a.example.org", ownName} {
		if err := verify(a, leaf(t, a, name), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	older := open(t, Options{PermittedDNS: []string{"example.org"}})
	before := older.Issuing()
	if b := open(t, wishing(older.dir)); b.Issuing().Equal(before) || verify(b, leaf(t, b, ownName), ownName) != nil {
		t.Error("an intermediate without the name is not replaced")
	}
	if again := open(t, wishing(older.dir)); again.Issuing().Equal(before) {
		t.Error("the older intermediate is there again")
	}
}

func TestWishesDoNotKeepAnybodyFromServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := open(t, Options{PermittedDNS: []string{"example.org"}}).dir
		key := filepath.Join(dir, "root.key")
		if err := os.Rename(key, key+".away"); err != nil {
			t.Fatal(err)
		}
		a := open(t, wishing(dir))
		if err := verify(a, leaf(t, a, "a.example.org"), "a.example.org"); err != nil {
			t.Error(err)
		}
		if _, err := a.Leaf(context.Background(), ownName); err == nil {
			t.Error("a leaf that no client would take")
		} else if _, ok := errors.AsType[*NameError](err); !ok {
			t.Error(err)
		}
		// What an operator wants is another matter, and the wish comes true when the key does.
		if err := a.Permit([]string{"example.org", "other.test"}); err == nil {
			t.Error("Permit promises what there is no key for")
		}
		if err := os.Rename(key+".away", key); err != nil {
			t.Fatal(err)
		}
		time.Sleep(renewalPause)
		if err := a.Refresh(); err != nil {
			t.Fatal(err)
		}
		leaf(t, a, ownName)
		if err := a.Permit([]string{"example.org", "other.test"}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{ownName, "other.test"} {
			leaf(t, a, name)
		}
	})
}

func TestWishOfAnUnboundedAuthority(t *testing.T) {
	a := open(t, Options{WishedDNS: []string{ownName}})
	leaf(t, a, ownName)
	leaf(t, a, "anything.test")
	if _, err := Open(Options{Dir: filepath.Join(t.TempDir(), "ca"), PermittedDNS: []string{}, WishedDNS: []string{"not a name"}}); err == nil {
		t.Error("a wish that is no name is taken")
	}
}
