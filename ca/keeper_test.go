package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func fixedPassphrase() ([]byte, error) { return []byte("correct horse"), nil }

func newDir(t testing.TB) string { return filepath.Join(t.TempDir(), "ca") }

func TestInitWithPassphrase(t *testing.T) {
	k := Keeper{Dir: newDir(t), Passphrase: fixedPassphrase, rounds: 1000}
	status, err := k.Init()
	if err != nil || status.RootKey != KeyEncrypted || len(status.Chain) != 0 {
		t.Fatalf("%+v, %v", status, err)
	}
	options := Options{Dir: k.Dir, PermittedDNS: []string{"example.org"}}
	_, err = Open(options)
	if problem, ok := errors.AsType[*FileError](err); !ok || !strings.Contains(problem.Hint(), "--passphrase-file") {
		t.Errorf("an intermediate without the passphrase: %v", err)
	}
	options.Passphrase = func() ([]byte, error) { return []byte("wrong horse"), nil }
	if _, err = Open(options); !errors.Is(err, errPassphrase) {
		t.Errorf("with another passphrase: %v", err)
	}
	options.Passphrase = fixedPassphrase
	a := open(t, options)
	if err := verify(a, leaf(t, a, "example.org"), "example.org"); err != nil {
		t.Error(err)
	}
	// With the intermediate there, nobody has to know the passphrase.
	options.Passphrase = nil
	b := open(t, options)
	leaf(t, b, "example.org")
	if err := b.Permit([]string{"other.test"}); err == nil {
		t.Error("a wider intermediate without the passphrase")
	}
	if _, err := (Keeper{Dir: k.Dir}).Rotate(); err == nil {
		t.Error("rotated without the passphrase")
	}
}

func TestOpenSSLReadsTheEncryptedKey(t *testing.T) {
	openssl := tool(t, "openssl")
	k := Keeper{Dir: newDir(t), Passphrase: fixedPassphrase, rounds: 1000}
	if _, err := k.Init(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(k.Dir, "root.key")
	out, err := exec.Command(openssl, "pkey", "-in", key, "-passin", "pass:correct horse", "-noout", "-text").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "prime256v1") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := exec.Command(openssl, "pkey", "-in", key, "-passin", "pass:wrong", "-noout").CombinedOutput(); err == nil {
		t.Errorf("opens with any passphrase\n%s", out)
	}
}

// TestKeyEncryptedByOpenSSL is what docs/ca.md says to an operator who wants a
// passphrase later.
func TestKeyEncryptedByOpenSSL(t *testing.T) {
	openssl := tool(t, "openssl")
	a := open(t, Options{PermittedDNS: []string{"example.org"}})
	key := filepath.Join(a.dir, "root.key")
	for i, args := range [][]string{
		{"-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256"}, {"-scrypt"},
	} {
		plain := key
		if i == 1 { // second round: decrypt first
			out, err := exec.Command(openssl, "pkey", "-in", key, "-passin", "pass:correct horse", "-out", key+".plain").CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			plain = key + ".plain"
		}
		args = append([]string{"pkcs8", "-topk8", "-in", plain, "-out", key + ".new", "-passout", "pass:correct horse"}, args...)
		if out, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := errors.Join(os.Chmod(key+".new", 0o600), os.Rename(key+".new", key)); err != nil {
			t.Fatal(err)
		}
		b := open(t, Options{Dir: a.dir, PermittedDNS: []string{"example.org"}, Passphrase: fixedPassphrase})
		if err := b.Permit([]string{"example.org", fmt.Sprintf("other%d.test", i)}); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestPassphraseFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passphrase")
	for _, tt := range []struct {
		content string
		mode    os.FileMode
		want    string // "" for a refusal
	}{
		{"correct horse\n", 0o600, "correct horse"},
		{"correct horse\r\nsecond line", 0o400, "correct horse"},
		{" blanks count ", 0o440, " blanks count "},
		{"correct horse\n", 0o644, ""},
		{"correct horse\n", 0o620, ""},
		{"", 0o600, ""},
		{"\nlong enough but second", 0o600, ""},
		{"short\n", 0o600, ""},
	} {
		os.Remove(path)
		if err := errors.Join(os.WriteFile(path, []byte(tt.content), 0o600), os.Chmod(path, tt.mode)); err != nil {
			t.Fatal(err)
		}
		got, err := PassphraseFile(path)()
		if string(got) != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%q, %v: %q, %v", tt.content, tt.mode, got, err)
		}
		if err != nil && tt.content != "" && strings.Contains(err.Error(), strings.TrimSpace(tt.content)) {
			t.Errorf("message shows content: %v", err)
		}
	}
}

func TestInitRefusesAFolderInUse(t *testing.T) {
	a := open(t, Options{})
	if _, err := (Keeper{Dir: a.dir}).Init(); err == nil {
		t.Error("a second root replaces the first")
	}
	if _, err := (Keeper{Dir: a.dir}).ImportRoot(a.RootPEM(), nil); err == nil {
		t.Error("an imported root replaces the first")
	}
}

// corporate is an authority as a company has one: a root, and one below it that
// signs.
type corporate struct {
	root, below       *x509.Certificate
	rootKey, belowKey *ecdsa.PrivateKey
}

func newCorporate(t *testing.T, change func(root *x509.Certificate)) corporate {
	t.Helper()
	var c corporate
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name, Country: []string{"ZZ"}},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * day),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
	}
	c.rootKey, c.belowKey = newKey(t), newKey(t)
	root := template("Corporate Root")
	if change != nil {
		change(root)
	}
	c.root = sign(t, root, root, c.rootKey.Public(), c.rootKey)
	c.below = sign(t, template("Corporate Issuing"), c.root, c.belowKey.Public(), c.rootKey)
	return c
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, public, key any) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// answer signs a request as a company's PKI does: with the extensions asked for.
func (c corporate) answer(t *testing.T, csrPEM []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(csrPEM)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(8), Subject: request.Subject, ExtraExtensions: request.Extensions,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(500 * day),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}, c.below, request.PublicKey, c.belowKey)
}

func TestRequestAnsweredByACompany(t *testing.T) {
	company := newCorporate(t, nil)
	k := Keeper{Dir: newDir(t)}
	permitted := []string{"example.org", "10.0.0.0/8"}
	csrPEM, err := k.Request(permitted, nil)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := k.Request([]string{"example.org"}, nil); err != nil || string(publicKeyOf(t, again)) != string(publicKeyOf(t, csrPEM)) {
		t.Errorf("the key of the request changes while it waits: %v", err)
	}
	if _, err := Open(Options{Dir: k.Dir}); err == nil || !strings.Contains(err.Error(), "waits") {
		t.Errorf("larder makes a root of its own while a request waits: %v", err)
	}
	answer := encodeCertificates(company.root, company.below, company.answer(t, csrPEM))
	status, err := k.Install(answer)
	if err != nil {
		t.Fatal(err)
	}
	if status.RootKey != KeyElsewhere || status.Waiting || !status.Roots[0].Equal(company.root) {
		t.Errorf("%+v", status)
	}
	if d := cmp.Diff(permitted, status.Permitted); d != "" {
		t.Errorf("permitted (-want +got):\n%s", d)
	}
	a := open(t, Options{Dir: k.Dir, PermittedDNS: permitted})
	cert := leaf(t, a, "files.example.org")
	if err := verifyChain(cert, company.root); err != nil || len(cert.Certificate) != 3 {
		t.Errorf("%d certificates: %v", len(cert.Certificate), err)
	}
	if err := verifyChain(forge(t, a, "other.test"), company.root); err == nil {
		t.Error("the answer is not constrained to what was asked for")
	}
	err = a.Permit([]string{"other.test"})
	if problem, ok := errors.AsType[*FileError](err); !ok || !strings.Contains(problem.Hint(), "--csr") {
		t.Errorf("a wider policy: %v", err)
	}
	// The next one is installed while this one serves.
	csrPEM, err = k.Request(append(permitted, "other.test"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Install(encodeCertificates(company.answer(t, csrPEM), company.below, company.root)); err != nil {
		t.Fatal(err)
	}
	if err := a.Permit([]string{"other.test"}); err != nil {
		t.Fatal(err)
	}
	if err := verifyChain(leaf(t, a, "other.test"), company.root); err != nil {
		t.Error(err)
	}
}

func publicKeyOf(t *testing.T, csrPEM []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(csrPEM)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return request.RawSubjectPublicKeyInfo
}

func TestInstallRefuses(t *testing.T) {
	company, other := newCorporate(t, nil), newCorporate(t, nil)
	k := Keeper{Dir: newDir(t)}
	csrPEM, err := k.Request([]string{"example.org"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cert := company.answer(t, csrPEM)
	key, err := encodeKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		data []byte
		says string
	}{
		{"nothing", nil, "no certificate"},
		{"no root", encodeCertificates(cert, company.below), "no root"},
		{"no intermediate between", encodeCertificates(cert, company.root), "does not stand above"},
		{"another root besides", encodeCertificates(cert, company.below, company.root, other.root), "does not stand above"},
		{"another's certificate", encodeCertificates(company.below, company.root), "for the key of this node"},
		{"another's key", append(key, encodeCertificates(cert, company.below, company.root)...), "for the key of this node"},
		{"two keys", append(append([]byte{}, key...), key...), "more than one private key"},
		{"the request itself", csrPEM, "CERTIFICATE REQUEST"},
		{"a leaf", encodeCertificates(sign(t, &x509.Certificate{
			SerialNumber: big.NewInt(9), NotAfter: time.Now().Add(day), NotBefore: time.Now().Add(-day),
		}, company.below, cert.PublicKey, company.belowKey), company.below, company.root), "no certificate of an authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := k.Install(tt.data); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(k.Dir, nodeFile)); err == nil {
		t.Error("what was refused is installed")
	}
	bounded := Keeper{Dir: k.Dir, Bounded: true}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(10), Subject: cert.Subject, NotBefore: time.Now().Add(-day), NotAfter: time.Now().Add(day),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	good := sign(t, template, company.below, cert.PublicKey, company.belowKey)
	_, err = bounded.Install(encodeCertificates(good, company.below, company.root))
	if problem, ok := errors.AsType[*FileError](err); !ok || !strings.Contains(problem.Remedy, "--unconstrained") {
		t.Errorf("a certificate that is good for any host: %v", err)
	}
	own := open(t, Options{})
	node, err := (Keeper{Dir: open(t, Options{}).dir}).IssueNode("n1", nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = (Keeper{Dir: own.dir}).Install(node)
	if problem, ok := errors.AsType[*FileError](err); !ok || filepath.Base(problem.Path) != "root.crt" {
		t.Errorf("a certificate of another root replaces larder's own: %v", err)
	}
}

func TestNodesOfOneRoot(t *testing.T) {
	permitted := []string{"example.org", "other.test"}
	central := open(t, Options{PermittedDNS: permitted})
	k := Keeper{Dir: central.dir}
	first, err := k.IssueNode("n1", nil, permitted, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The second has a narrower policy, and a key that it keeps for itself.
	n2 := Keeper{Dir: newDir(t)}
	csrPEM, err := n2.Request([]string{"other.test"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := k.IssueNode("n2", csrPEM, permitted, nil)
	if err != nil || strings.Contains(string(second), "PRIVATE") {
		t.Fatalf("%s, %v", second, err)
	}
	for i, tt := range []struct {
		keeper    Keeper
		data      []byte
		permitted []string
	}{{Keeper{Dir: newDir(t)}, first, permitted}, {n2, second, []string{"other.test"}}} {
		if _, err := tt.keeper.Install(tt.data); err != nil {
			t.Fatal(err)
		}
		node := open(t, Options{Dir: tt.keeper.Dir, PermittedDNS: tt.permitted})
		if err := verifyChain(leaf(t, node, "other.test"), central.Root()); err != nil {
			t.Errorf("node %d: %v", i+1, err)
		}
		if err := verifyChain(forge(t, node, "example.org"), central.Root()); (err == nil) != (i == 0) {
			t.Errorf("node %d: %v", i+1, err)
		}
		if info, err := os.Stat(filepath.Join(tt.keeper.Dir, nodeFile)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("node %d: %v, %v", i+1, info, err)
		}
		// Nothing on a node can sign for another, or rotate.
		if _, err := tt.keeper.IssueNode("n3", nil, permitted, nil); err == nil {
			t.Errorf("node %d issues", i+1)
		}
		if _, err := tt.keeper.Rotate(); err == nil {
			t.Errorf("node %d rotates", i+1)
		}
	}
	if _, err := k.IssueNode("n3", csrPEM, []string{"example.org"}, nil); err == nil || !strings.Contains(err.Error(), "other.test") {
		t.Errorf("a request for more than the policy: %v", err)
	}
	for _, name := range []string{"", "a b", "-a", "../x", strings.Repeat("a", 41), "n\n1"} {
		if _, err := k.IssueNode(name, nil, permitted, nil); err == nil {
			t.Errorf("node %q is issued for", name)
		}
	}
	entries, _, err := k.Log()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Kind+" "+e.Node)
	}
	if d := cmp.Diff([]string{"root ", "intermediate ", "intermediate n1", "intermediate n2"}, got); d != "" {
		t.Errorf("log (-want +got):\n%s", d)
	}
}

// TestNodeGoesAlongWithARotation installs what the rotated root issues while the
// node serves.
func TestNodeGoesAlongWithARotation(t *testing.T) {
	central := open(t, Options{})
	old := central.Root()
	k, n := Keeper{Dir: central.dir}, Keeper{Dir: newDir(t)}
	install := func() {
		t.Helper()
		data, err := k.IssueNode("n1", nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Install(data); err != nil {
			t.Fatal(err)
		}
	}
	install()
	node := open(t, Options{Dir: n.Dir})
	leaf(t, node, "example.org")
	if _, err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	install()
	if err := node.Refresh(); err != nil {
		t.Fatal(err)
	}
	cert := leaf(t, node, "example.org")
	if err := errors.Join(verifyChain(cert, old), verifyChain(cert, node.Root())); err != nil {
		t.Error(err)
	}
	if node.Root().Equal(old) || !strings.Contains(string(node.RootPEM()), string(encodeCertificates(old))) {
		t.Error("the node does not give out both roots")
	}
	if _, err := k.Retire(true); err != nil {
		t.Fatal(err)
	}
	install()
	if err := node.Refresh(); err != nil {
		t.Fatal(err)
	}
	if got := leaf(t, node, "example.org"); len(got.Certificate) != 2 || string(node.RootPEM()) != string(encodeCertificates(node.Root())) {
		t.Errorf("%d certificates sent after the retirement", len(got.Certificate))
	}
}

func TestImportRoot(t *testing.T) {
	company := newCorporate(t, nil)
	keyPEM, err := encodeKey(company.rootKey)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := sealKey(company.rootKey, []byte("correct horse"), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		key        []byte
		passphrase func() ([]byte, error)
		want       string // where the key is
	}{
		"plain":                 {keyPEM, nil, KeyHere},
		"plain, encrypted here": {keyPEM, fixedPassphrase, KeyEncrypted},
		"encrypted":             {sealed, fixedPassphrase, KeyEncrypted},
		"encrypted, no word":    {sealed, nil, ""},
		"garbage":               {[]byte("hello"), nil, ""},
	} {
		k := Keeper{Dir: newDir(t), Passphrase: tt.passphrase, rounds: 1000}
		status, err := k.ImportRoot(encodeCertificates(company.root), tt.key)
		if (err == nil) != (tt.want != "") || err == nil && status.RootKey != tt.want {
			t.Errorf("%s: %+v, %v", name, status, err)
		}
		if tt.want == "" {
			continue
		}
		a := open(t, Options{Dir: k.Dir, PermittedDNS: []string{"example.org"}, Passphrase: tt.passphrase})
		if err := verifyChain(leaf(t, a, "example.org"), company.root); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := k.Rotate(); err != nil {
			t.Errorf("%s: rotate: %v", name, err)
		}
		if err := a.Refresh(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := verifyChain(leaf(t, a, "example.org"), company.root); err != nil {
			t.Errorf("%s: after a rotation: %v", name, err)
		}
	}
}

func TestImportRootRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*x509.Certificate)
		says   string
	}{
		"no room below":   {func(c *x509.Certificate) { c.MaxPathLenZero = true }, "path length"},
		"expired":         {func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "expired"},
		"not yet valid":   {func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, "not valid before"},
		"may not sign":    {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, "no certificate of an authority"},
		"is no authority": {func(c *x509.Certificate) { c.IsCA = false }, "no certificate of an authority"},
	} {
		key := newKey(t)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "R"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(day),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		tt.change(template)
		if template.MaxPathLenZero {
			template.MaxPathLen = 0
		}
		keyPEM, err := encodeKey(key)
		if err != nil {
			t.Fatal(err)
		}
		_, err = (Keeper{Dir: newDir(t)}).ImportRoot(encodeCertificates(sign(t, template, template, key.Public(), key)), keyPEM)
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
	}
	company := newCorporate(t, nil)
	keyPEM, err := encodeKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Keeper{Dir: newDir(t)}).ImportRoot(encodeCertificates(company.root), keyPEM); err == nil || !strings.Contains(err.Error(), "not that of the root") {
		t.Errorf("another key: %v", err)
	}
	if _, err := (Keeper{Dir: newDir(t)}).ImportRoot(encodeCertificates(company.below), keyPEM); err == nil || !strings.Contains(err.Error(), "not signed by itself") {
		t.Errorf("an intermediate: %v", err)
	}
}
