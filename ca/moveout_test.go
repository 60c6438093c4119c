package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// trustees are clients that know the old root, both, or the new one.
func trustees(t *testing.T, a *Authority, old, renewed *x509.Certificate) (oldOnly, both, newOnly bool) {
	t.Helper()
	cert := leaf(t, a, "files.example.org")
	return verifyChain(cert, old) == nil,
		verifyChain(cert, old) == nil || verifyChain(cert, renewed) == nil,
		verifyChain(cert, renewed) == nil
}

// TestRotationToARootOfYours brings in a root of a company's with its key, whose
// name larder would not write so.
func TestRotationToARootOfYours(t *testing.T) {
	company := newCorporate(t, func(root *x509.Certificate) {
		root.Subject.OrganizationalUnit = []string{"Trust Services", "Straße 7"}
		root.SubjectKeyId = []byte("chosen by the company")
		root.MaxPathLen = 1
	})
	keyPEM, err := encodeKey(company.rootKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, passphrase := range []func() ([]byte, error){nil, fixedPassphrase} {
		k := Keeper{Dir: newDir(t), Passphrase: passphrase, rounds: 1000}
		if _, err := k.Init(); err != nil {
			t.Fatal(err)
		}
		a := open(t, Options{Dir: k.Dir, PermittedDNS: []string{"example.org"}, Passphrase: passphrase})
		old := a.Root()
		status, err := k.RotateTo(encodeCertificates(company.root), keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		if len(status.Roots) != 2 || !status.Roots[0].Equal(company.root) || status.RetireAfter.IsZero() {
			t.Errorf("status %+v", status)
		}
		if want := KeyHere; passphrase == nil && status.RootKey != want || passphrase != nil && status.RootKey != KeyEncrypted {
			t.Errorf("the key is %s", status.RootKey)
		}
		if err := a.Refresh(); err != nil {
			t.Fatal(err)
		}
		if string(a.RootPEM()) != string(encodeCertificates(company.root, old)) {
			t.Error("clients do not get both roots")
		}
		if o, b, n := trustees(t, a, old, company.root); !o || !b || !n {
			t.Errorf("in the overlap: old %v, both %v, new %v", o, b, n)
		}
		if _, err := k.Retire(true); err != nil {
			t.Fatal(err)
		}
		if err := a.Refresh(); err != nil {
			t.Fatal(err)
		}
		if o, b, n := trustees(t, a, old, company.root); o || !b || !n {
			t.Errorf("after the retirement: old %v, both %v, new %v", o, b, n)
		}
		var kinds []string
		entries, _, err := k.Log()
		for _, e := range entries {
			kinds = append(kinds, e.Kind)
		}
		if d := cmp.Diff([]string{KindRoot, KindIntermediate, KindRoot, KindCross, KindIntermediate}, kinds); d != "" || err != nil {
			t.Errorf("log (-want +got): %v\n%s", err, d)
		}
	}
}

// TestRotationToARootOfYoursServesEveryStack has the TLS stacks of this machine
// follow the chain that the old root ends, whose names larder has not chosen.
func TestRotationToARootOfYoursServesEveryStack(t *testing.T) {
	company := newCorporate(t, func(root *x509.Certificate) { root.Subject.OrganizationalUnit = []string{"Straße 7"} })
	keyPEM, err := encodeKey(company.rootKey)
	if err != nil {
		t.Fatal(err)
	}
	a := open(t, Options{PermittedDNS: []string{"example.org"}})
	old := a.Root()
	if _, err := (Keeper{Dir: a.dir}).RotateTo(encodeCertificates(company.root), keyPEM); err != nil {
		t.Fatal(err)
	}
	if err := a.Refresh(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(serve(t, a))
	for name, connect := range connectors() {
		for knows, root := range map[string]*x509.Certificate{"old": old, "new": company.root} {
			t.Run(name+"/"+knows, func(t *testing.T) {
				t.Parallel()
				if !connect(t, []*x509.Certificate{root}, port) {
					t.Error("not trusted")
				}
			})
		}
	}
}

func TestRotationToARootOfYoursRefuses(t *testing.T) {
	key := newKey(t)
	keyPEM, err := encodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(day),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	for name, tt := range map[string]struct {
		change func(own *x509.Certificate, ownKey []byte) (root *x509.Certificate, keyPEM []byte)
		says   string
	}{
		"the present root again": {
			func(own *x509.Certificate, ownKey []byte) (*x509.Certificate, []byte) { return own, ownKey },
			"key of the present one",
		},
		"a root of the same name": {
			func(own *x509.Certificate, _ []byte) (*x509.Certificate, []byte) {
				named := *template
				named.RawSubject = own.RawSubject
				return sign(t, &named, &named, key.Public(), key), keyPEM
			},
			"name of the present one",
		},
		"another's key": {
			func(_ *x509.Certificate, ownKey []byte) (*x509.Certificate, []byte) {
				named := *template
				named.Subject.CommonName = "Other"
				return sign(t, &named, &named, key.Public(), key), ownKey
			},
			"not that of the root",
		},
	} {
		a := open(t, Options{})
		ownKey, err := os.ReadFile(filepath.Join(a.dir, "root.key"))
		if err != nil {
			t.Fatal(err)
		}
		root, rootKey := tt.change(a.Root(), ownKey)
		before := listing(t, a.dir)
		if _, err := (Keeper{Dir: a.dir}).RotateTo(encodeCertificates(root), rootKey); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
		if d := cmp.Diff(before, listing(t, a.dir)); d != "" {
			t.Errorf("%s: files changed:\n%s", name, d)
		}
	}
}

// listing is what a folder holds, file by file.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = string(data)
	}
	return files
}

// companyAnswer is what a company's PKI sends back for the request of a folder.
func companyAnswer(t *testing.T, k Keeper, company corporate, dns ...string) []byte {
	t.Helper()
	csrPEM, err := k.Request(dns, nil)
	if err != nil {
		t.Fatal(err)
	}
	return encodeCertificates(company.answer(t, csrPEM), company.below, company.root)
}

// TestRotationToACompany goes over to a root whose key never comes here, below
// which a further authority of the company's signs.
func TestRotationToACompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		company := newCorporate(t, nil)
		a := open(t, Options{PermittedDNS: []string{"example.org"}})
		k, old := Keeper{Dir: a.dir}, a.Root()
		answer := companyAnswer(t, k, company, "example.org")
		if _, err := k.Install(answer); err == nil || !strings.Contains(err.Error(), "another root") {
			t.Fatalf("installed without a rotation: %v", err)
		}
		if _, err := k.RotateInstall(answer); err != nil {
			t.Fatal(err)
		}
		refresh := func() {
			t.Helper()
			if err := a.Refresh(); err != nil {
				t.Fatal(err)
			}
		}
		refresh()
		if string(a.RootPEM()) != string(encodeCertificates(company.root, old)) {
			t.Error("clients do not get both roots")
		}
		overlap := func() {
			t.Helper()
			a.leaves.clear()
			if o, b, n := trustees(t, a, old, company.root); !o || !b || !n {
				t.Errorf("in the overlap: old %v, both %v, new %v", o, b, n)
			}
		}
		overlap()
		if _, err := k.RotateInstall(companyAnswer(t, k, company, "example.org")); err == nil {
			t.Error("a second rotation begins before the first has ended")
		}

		// A renewal in the overlap comes from the company, which knows of no other root.
		renewed := companyAnswer(t, k, company, "example.org", "other.test")
		if _, err := k.Install(renewed); err != nil {
			t.Fatal(err)
		}
		refresh()
		overlap()

		if _, err := k.Retire(false); err == nil {
			t.Error("retired at once")
		}
		time.Sleep(MinOverlap + time.Minute)
		status, err := k.Retire(false)
		if err != nil || len(status.Roots) != 1 || !status.RetireAfter.IsZero() {
			t.Fatalf("%+v, %v", status, err)
		}
		refresh()
		if o, b, n := trustees(t, a, old, company.root); o || !b || !n {
			t.Errorf("after the retirement: old %v, both %v, new %v", o, b, n)
		}
		if files := listing(t, a.dir); files["root.key"] != "" || files["root.crt"] != "" {
			t.Error("the old root's files stay")
		}
		if _, err := k.Retire(false); err == nil {
			t.Error("there is a root to retire twice")
		}
	})
}

// TestCrashWhileRetiringForACompany stops after the step that ends the trust.
func TestCrashWhileRetiringForACompany(t *testing.T) {
	company := newCorporate(t, nil)
	a := open(t, Options{PermittedDNS: []string{"example.org"}})
	k, before := Keeper{Dir: a.dir}, listing(t, a.dir)
	if _, err := k.RotateInstall(companyAnswer(t, k, company, "example.org")); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Retire(true); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root.crt", "root.key"} {
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(before[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again := open(t, Options{Dir: a.dir, PermittedDNS: []string{"example.org"}})
	if string(again.RootPEM()) != string(encodeCertificates(company.root)) {
		t.Error("the old root is trusted again")
	}
	if _, err := k.Retire(true); err != nil {
		t.Errorf("retire once more: %v", err)
	}
	if listing(t, a.dir)["root.key"] != "" {
		t.Error("the old root's key stays")
	}
}

func TestRotationToACompanyRefuses(t *testing.T) {
	company := newCorporate(t, nil)
	a := open(t, Options{PermittedDNS: []string{"example.org"}})
	k := Keeper{Dir: a.dir}
	answer := companyAnswer(t, k, company, "example.org")
	block, _ := pem.Decode(answer)
	two := newCorporate(t, func(root *x509.Certificate) { root.Subject.CommonName = "Second" })
	for name, data := range map[string][]byte{
		"no root":         bytes.TrimSuffix(answer, encodeCertificates(company.root)),
		"a stray root":    slices.Concat(answer, encodeCertificates(two.root)),
		"no intermediate": encodeCertificates(company.below, company.root),
		"half a file":     answer[:len(answer)/2],
		"the leaf's PEM":  pem.EncodeToMemory(block),
	} {
		before := listing(t, a.dir)
		if _, err := k.RotateInstall(data); err == nil {
			t.Errorf("%s: rotated", name)
		}
		if d := cmp.Diff(before, listing(t, a.dir)); d != "" {
			t.Errorf("%s: files changed:\n%s", name, d)
		}
	}
	if err := os.Remove(filepath.Join(a.dir, "root.key")); err != nil {
		t.Fatal(err)
	}
	_, err := k.RotateInstall(answer)
	if problem, ok := errors.AsType[*FileError](err); !ok || !strings.Contains(problem.Problem, "old root must sign") {
		t.Errorf("without the old root's key: %v", err)
	}
}

func TestRenewNow(t *testing.T) {
	k := Keeper{Dir: newDir(t), Passphrase: fixedPassphrase, rounds: 1000}
	if _, err := k.Init(); err != nil {
		t.Fatal(err)
	}
	if _, err := (Keeper{Dir: k.Dir}).Renew([]string{"example.org"}, nil); err == nil {
		t.Error("renewed without the passphrase")
	}
	if _, err := k.Renew([]string{"example.org"}, nil); err != nil {
		t.Fatal(err)
	}
	// Who has no passphrase serves with it.
	a := open(t, Options{Dir: k.Dir, PermittedDNS: []string{"example.org"}})
	first := a.Issuing()
	status, err := k.Renew([]string{"example.org", "other.test"}, nil)
	if err != nil || len(status.Permitted) != 2 {
		t.Fatalf("%+v, %v", status, err)
	}
	if err := a.Permit([]string{"other.test"}); err != nil {
		t.Error(err)
	}
	if err := verifyChain(leaf(t, a, "other.test"), a.Root()); err != nil || a.Issuing().Equal(first) {
		t.Errorf("the new intermediate is not taken up: %v", err)
	}
	if _, err := (Keeper{Dir: newDir(t)}).Renew(nil, nil); err == nil {
		t.Error("renewed where there is nothing")
	}
}
