package ca

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRotationServesClientsOfEitherRoot has clients that know the old root, both
// or the new one connect to one authority in each phase of a rotation.
func TestRotationServesClientsOfEitherRoot(t *testing.T) {
	a := open(t, Options{PermittedDNS: []string{"example.org"}})
	_, port, _ := net.SplitHostPort(serve(t, a))
	k := Keeper{Dir: a.dir}
	old := a.Root()
	type phase struct {
		name                   string
		oldOnly, both, newOnly bool // whether clients that know these roots trust what they see
	}
	var clients map[string][]*x509.Certificate
	check := func(p phase, only ...string) {
		t.Helper()
		for name, connect := range connectors() {
			if only != nil && !slices.Contains(only, name) {
				continue
			}
			for knows, want := range map[string]bool{"old": p.oldOnly, "both": p.both, "new": p.newOnly} {
				roots := clients[knows]
				if roots == nil {
					continue
				}
				t.Run(p.name+"/"+name+"/"+knows, func(t *testing.T) {
					if got := connect(t, roots, port); got != want {
						t.Errorf("trusted: %v, want %v", got, want)
					}
				})
			}
		}
	}

	clients = map[string][]*x509.Certificate{"old": {old}}
	check(phase{"before", true, true, false})

	if _, err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	// Between the rotation and the next look at the folder nothing changes.
	check(phase{"unnoticed", true, true, false}, "go")
	if err := a.Refresh(); err != nil {
		t.Fatal(err)
	}
	clients["both"], clients["new"] = []*x509.Certificate{a.Root(), old}, []*x509.Certificate{a.Root()}
	if a.Root().Equal(old) || string(a.RootPEM()) != string(encodeCertificates(a.Root(), old)) {
		t.Errorf("RootPEM is not the new root and the old")
	}
	check(phase{"overlap", true, true, true})

	if _, err := k.Retire(true); err != nil {
		t.Fatal(err)
	}
	check(phase{"retired and unnoticed", true, true, true}, "go")
	if err := a.Refresh(); err != nil {
		t.Fatal(err)
	}
	if string(a.RootPEM()) != string(encodeCertificates(a.Root())) {
		t.Errorf("RootPEM has more than the new root")
	}
	check(phase{"retired", false, true, true})
}

// TestRotationOfAnAuthorityAtRest has nobody serve while the root is rotated.
func TestRotationOfAnAuthorityAtRest(t *testing.T) {
	a := open(t, Options{PermittedDNS: []string{"example.org"}})
	k, old := Keeper{Dir: a.dir}, a.Root()
	if _, err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	b := open(t, Options{Dir: a.dir, PermittedDNS: []string{"example.org"}})
	cert := leaf(t, b, "example.org")
	for _, root := range []*x509.Certificate{old, b.Root()} {
		if err := verifyChain(cert, root); err != nil {
			t.Errorf("%s: %v", root.Subject, err)
		}
	}
	if _, err := k.Retire(true); err != nil {
		t.Fatal(err)
	}
	c := open(t, Options{Dir: a.dir, PermittedDNS: []string{"example.org"}})
	if !c.Issuing().Equal(b.Issuing()) || len(leaf(t, c, "example.org").Certificate) != 2 {
		t.Error("the intermediate changes, or more than it is sent, once the old root is retired")
	}
}

// verifyChain verifies a leaf with what is sent along and one root.
func verifyChain(cert *tls.Certificate, root *x509.Certificate) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, der := range cert.Certificate[1:] {
		above, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		intermediates.AddCert(above)
	}
	_, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: time.Now()})
	return err
}

func TestRetireWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Options{})
		k := Keeper{Dir: a.dir}
		if _, err := k.Retire(false); err == nil {
			t.Error("there is a root to retire without a rotation")
		}
		status, err := k.Rotate()
		if err != nil || status.RetireAfter.Sub(time.Now().Add(MinOverlap)).Abs() > time.Minute {
			t.Fatalf("retire after %v, %v", status.RetireAfter, err)
		}
		if _, err := k.Rotate(); err == nil {
			t.Error("a second rotation begins before the first has ended")
		}
		time.Sleep(MinOverlap - time.Hour)
		if _, err := k.Retire(false); err == nil {
			t.Error("retired an hour early")
		}
		time.Sleep(time.Hour + time.Minute)
		status, err = k.Retire(false)
		if err != nil || len(status.Roots) != 1 {
			t.Errorf("%d roots, %v", len(status.Roots), err)
		}
		if left, _ := filepath.Glob(filepath.Join(a.dir, "old-root*")); len(left) > 0 {
			t.Errorf("%v stays", left)
		}
		if _, err := k.Rotate(); err != nil {
			t.Errorf("the next rotation: %v", err)
		}
	})
}

func TestOldRootThatExpiresInARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Options{})
		k := Keeper{Dir: a.dir}
		time.Sleep(rootLifetime - 10*day)
		if _, err := k.Rotate(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * day)
		b := open(t, Options{Dir: a.dir})
		if err := verify(b, leaf(t, b, "example.org"), "example.org"); err != nil {
			t.Error(err)
		}
		if string(b.RootPEM()) != string(encodeCertificates(b.Root())) {
			t.Error("a root that has expired is given to clients")
		}
		if _, err := k.Rotate(); err != nil {
			t.Errorf("rotate once more: %v", err)
		}
	})
}

// TestCrashWhileRotating begins with what is on the disk after each step of a
// rotation: "+" marks files of after it, "!" those that are torn.
func TestCrashWhileRotating(t *testing.T) {
	for _, passphrase := range []func() ([]byte, error){nil, fixedPassphrase} {
		before := filepath.Join(t.TempDir(), "ca")
		k := Keeper{Dir: before, Passphrase: passphrase, rounds: 1000}
		if _, err := k.Init(); err != nil {
			t.Fatal(err)
		}
		options := Options{Dir: before, PermittedDNS: []string{"example.org"}, Passphrase: passphrase}
		old := open(t, options).Root()
		after := copyFolder(t, before)
		if _, err := (Keeper{Dir: after, Passphrase: passphrase, rounds: 1000}).Rotate(); err != nil {
			t.Fatal(err)
		}
		begun := []string{"root.crt", "root.key", "issuing.crt", "issuing.key", "cross.crt+", "old-root.key+", "old-root.crt+"}
		rotated := []string{"root.crt+", "root.key+", "cross.crt+", "old-root.key+", "old-root.crt+"}
		for _, step := range []struct {
			files   []string
			rotated bool
		}{
			{[]string{"root.crt", "root.key", "issuing.crt", "issuing.key", "cross.crt.next!"}, false},
			{[]string{"root.crt", "root.key", "issuing.crt", "issuing.key", "cross.crt+"}, false},
			{[]string{"root.crt", "root.key", "issuing.crt", "issuing.key", "cross.crt+", "old-root.key.next!"}, false},
			{[]string{"root.crt", "root.key", "issuing.crt", "issuing.key", "cross.crt+", "old-root.key+"}, false},
			{begun, false},
			{append([]string{"root.key.next!"}, begun...), false},
			{append([]string{"root.key.next"}, begun...), false},
			{append([]string{"root.key.next", "root.crt.next"}, begun...), false},
			{append([]string{"root.key.next", "root.crt+", "root.key", "issuing.crt", "issuing.key"}, rotated[2:]...), true},
			{append([]string{"issuing.crt", "issuing.key"}, rotated...), true},
			{append([]string{"issuing.crt", "issuing.key", "issuing.key.next"}, rotated...), true},
			{append([]string{"issuing.crt+", "issuing.key", "issuing.key.next"}, rotated...), true},
			{append([]string{"issuing.crt+", "issuing.key+"}, rotated...), true},
		} {
			if passphrase != nil && !slices.Contains(step.files, "root.key.next") {
				continue // the key's form makes no difference
			}
			options.Dir = assemble(t, before, after, step.files)
			a, err := Open(options)
			if err != nil {
				t.Errorf("%v: %v", step.files, err)
				continue
			}
			cert := leaf(t, a, "example.org")
			if err := errors.Join(verifyChain(cert, old), verifyChain(cert, a.Root())); err != nil {
				t.Errorf("%v: %v", step.files, err)
			}
			if got := !a.Root().Equal(old); got != step.rotated {
				t.Errorf("%v: rotated: %v", step.files, got)
			}
			if _, err := (Keeper{Dir: options.Dir, Passphrase: passphrase, rounds: 1000}).Rotate(); (err == nil) == step.rotated {
				t.Errorf("%v: rotate again: %v", step.files, err)
			}
			a.Close()
		}
	}
}

func copyFolder(t *testing.T, from string) string {
	t.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return assemble(t, from, from, names)
}

// assemble makes a folder of files from before and after a change.
func assemble(t *testing.T, before, after string, files []string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name, torn := strings.CutSuffix(file, "!")
		name, changed := strings.CutSuffix(name, "+")
		source := before
		if changed || strings.HasSuffix(name, next) {
			source = after
		}
		data, err := os.ReadFile(filepath.Join(source, strings.TrimSuffix(name, next)))
		if err != nil {
			t.Fatal(err)
		}
		if torn {
			data = data[:len(data)/2]
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestCrashWhileRetiring stops the removal after each file.
func TestCrashWhileRetiring(t *testing.T) {
	a := open(t, Options{})
	if _, err := (Keeper{Dir: a.dir}).Rotate(); err != nil {
		t.Fatal(err)
	}
	for _, gone := range [][]string{{}, {"old-root.crt"}, {"old-root.crt", "old-root.key"}, {"old-root.crt", "old-root.key", "cross.crt"}} {
		dir := copyFolder(t, a.dir)
		for _, name := range gone {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		b := open(t, Options{Dir: dir})
		if err := verifyChain(leaf(t, b, "example.org"), b.Root()); err != nil {
			t.Errorf("without %v: %v", gone, err)
		}
		left, _ := filepath.Glob(filepath.Join(dir, "[oc]*[rd]*-root*"))
		if overlap := len(gone) == 0; overlap != (len(left) == 2) || overlap != (len(leaf(t, b, "example.org").Certificate) == 3) {
			t.Errorf("without %v: %v stays", gone, left)
		}
	}
}

func TestRotateNeedsTheOldKey(t *testing.T) {
	a := open(t, Options{})
	if err := os.Remove(filepath.Join(a.dir, "root.key")); err != nil {
		t.Fatal(err)
	}
	_, err := (Keeper{Dir: a.dir}).Rotate()
	if problem, ok := errors.AsType[*FileError](err); !ok || problem.Hint() == "" {
		t.Errorf("%v", err)
	}
	if again := open(t, Options{Dir: a.dir}); !again.Root().Equal(a.Root()) {
		t.Error("the root has changed")
	}
}
