package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"software.sslmate.com/src/go-pkcs12"
)

// newRoot returns a root certificate in DER.
func newRoot(t testing.TB, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IsCA:         true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func encode(ders ...[]byte) []byte {
	var data []byte
	for _, der := range ders {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return data
}

func writeFile(t testing.TB, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func write(t testing.TB, dir string, rootPEM []byte, extra ...string) Files {
	t.Helper()
	files, err := Write(dir, rootPEM, extra)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func ders(t testing.TB, path string) [][]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	set := newRootSet()
	set.addPEM(data)
	return set.ders
}

func systemRoots(t testing.TB) [][]byte {
	t.Helper()
	set := newRootSet()
	if err := set.addSystem(); err != nil {
		t.Fatal(err)
	}
	return set.ders
}

func TestWriteBundlesAllRoots(t *testing.T) {
	dir := t.TempDir()
	root, corp, site := newRoot(t, "larder root"), newRoot(t, "corp root"), newRoot(t, "site root")
	system := systemRoots(t)
	if len(system) == 0 {
		t.Log("this machine has no roots of its own")
	}
	var again []byte
	if len(system) > 0 {
		again = system[0]
	}
	noise := append([]byte("# corp, héhé\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), encode(corp, again, corp)...)
	extra := writeFile(t, filepath.Join(dir, "corp.pem"), noise)
	folder := filepath.Join(dir, "hashed")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(folder, "0a1b2c3d.0"), encode(site))
	writeFile(t, filepath.Join(folder, "README"), []byte("no certificate"))
	if err := os.Symlink("nowhere", filepath.Join(folder, "dangling.pem")); err != nil {
		t.Fatal(err)
	}

	files := write(t, filepath.Join(dir, "state", "trust"), encode(root), extra, folder, filepath.Join(dir, "absent.pem"))
	want := append(append([][]byte{}, system...), corp, site, root)
	if d := cmp.Diff(want, ders(t, files.Bundle)); d != "" {
		t.Errorf("bundle has other roots (-want +got):\n%.2000s", d)
	}
	if d := cmp.Diff([][]byte{root}, ders(t, files.CA)); d != "" {
		t.Errorf("ca.pem (-want +got):\n%s", d)
	}
	data, err := os.ReadFile(files.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.ContainsAny(line, "# :") && !strings.HasPrefix(line, "-----") {
			t.Fatalf("bundle has more than PEM: %q", line)
		}
	}
	if len(want) != len(trustStore(t, files)) {
		t.Errorf("trust store has %d roots, bundle %d", len(trustStore(t, files)), len(want))
	}
}

func trustStore(t testing.TB, files Files) []*x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(files.TrustStore)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pkcs12.DecodeTrustStore(data, files.TrustStorePassword)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

func TestWriteLetsEverybodyRead(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	dir := filepath.Join(t.TempDir(), "trust")
	files := write(t, dir, encode(newRoot(t, "larder root")))
	for path, mode := range map[string]os.FileMode{
		dir: 0o755, files.CA: 0o644, files.Bundle: 0o644, files.TrustStore: 0o644, files.AptConf: 0o644, files.Wgetrc: 0o644,
		files.PHPIni: 0o644,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, mode)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 6 {
		t.Errorf("%d files: %v, %v", len(entries), entries, err)
	}
}

func TestWriteReplacesOnlyWhatChanges(t *testing.T) {
	dir := t.TempDir()
	root, next := encode(newRoot(t, "larder root")), encode(newRoot(t, "next root"))
	stat := func(path string) os.FileInfo {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	files := write(t, dir, root)
	all := []string{files.CA, files.Bundle, files.TrustStore, files.AptConf}
	before := map[string]os.FileInfo{}
	for _, path := range all {
		before[path] = stat(path)
	}
	write(t, dir, root)
	for _, path := range all {
		if !os.SameFile(before[path], stat(path)) {
			t.Errorf("%s is replaced without need", path)
		}
	}
	write(t, dir, append(root, next...))
	for _, path := range []string{files.CA, files.Bundle, files.TrustStore} {
		if os.SameFile(before[path], stat(path)) {
			t.Errorf("%s is not replaced when a root comes in", path)
		}
	}
	write(t, dir, root)
	if n := len(ders(t, files.CA)); n != 1 {
		t.Errorf("a retired root stays: %d", n)
	}
}

func TestWriteMendsWhatWasDamaged(t *testing.T) {
	dir := t.TempDir()
	root := encode(newRoot(t, "larder root"))
	files := write(t, dir, root)
	for _, path := range []string{files.CA, files.Bundle, files.TrustStore, files.AptConf} {
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, good[:len(good)/2])
		write(t, dir, root)
		if mended, _ := os.ReadFile(path); len(mended) != len(good) {
			t.Errorf("%s stays damaged", path)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		write(t, dir, root)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

func TestWriteAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "trust")
	root := newRoot(t, "larder root")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := Write(dir, encode(root), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	files := write(t, dir, encode(root))
	if got := trustStore(t, files); !got[len(got)-1].Equal(mustParse(t, root)) {
		t.Error("the trust store lacks larder's root")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 6 {
		t.Errorf("files are left over: %v", entries)
	}
}

func mustParse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestWriteLeavesOwnBundleOutOfTheCallers(t *testing.T) {
	dir := t.TempDir()
	retired := encode(newRoot(t, "retired root"))
	files := write(t, dir, retired)
	root := newRoot(t, "larder root")
	write(t, dir, encode(root), files.Bundle, files.CA)
	bundle := ders(t, files.Bundle)
	if len(bundle) != len(systemRoots(t))+1 || string(bundle[len(bundle)-1]) != string(root) {
		t.Errorf("%d roots, %d of them the system's", len(bundle), len(systemRoots(t)))
	}
}

func TestWriteErrors(t *testing.T) {
	dir := t.TempDir()
	root := encode(newRoot(t, "larder root"))
	file := writeFile(t, filepath.Join(dir, "file"), nil)
	huge := filepath.Join(dir, "huge.pem")
	writeFile(t, huge, nil)
	if err := os.Truncate(huge, maxBundle+1); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		dir   string
		pem   []byte
		extra []string
		says  string
	}{
		"no root":                    {filepath.Join(dir, "a"), []byte("hello"), nil, "no certificate"},
		"a file in place of folder":  {file, root, nil, file},
		"a folder inside of a file":  {filepath.Join(file, "trust"), root, nil, file},
		"a bundle beyond all bounds": {filepath.Join(dir, "b"), root, []string{huge}, huge},
	} {
		if _, err := Write(tt.dir, tt.pem, tt.extra); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q in it", name, err, tt.says)
		}
	}
}

func TestWriteRefusesAFolderThatOthersCanWriteIn(t *testing.T) {
	root := encode(newRoot(t, "larder root"))
	for _, mode := range []os.FileMode{0o777, 0o775, 0o757, 0o777 | os.ModeSticky} {
		dir := t.TempDir()
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Write(dir, root, nil)
		loose, ok := errors.AsType[*LooseError](err)
		if !ok || loose.Hint() != "chmod go-w "+dir {
			t.Errorf("mode %v: %v, want it refused with a hint", mode, err)
		}
	}
}

func TestFriendlyNamesDifferAndStay(t *testing.T) {
	a, b := mustParse(t, newRoot(t, "Same Root")), mustParse(t, newRoot(t, "same root"))
	if friendlyName(a) == friendlyName(b) || strings.ToLower(friendlyName(a)) != friendlyName(a) {
		t.Errorf("%q, %q", friendlyName(a), friendlyName(b))
	}
	if friendlyName(a) != friendlyName(mustParse(t, a.Raw)) {
		t.Error("another name for the same root")
	}
}

func TestCallerBundles(t *testing.T) {
	dir := t.TempDir()
	a := writeFile(t, filepath.Join(dir, "a.pem"), nil)
	b := writeFile(t, filepath.Join(dir, "b.pem"), nil)
	env := map[string]string{
		"SSL_CERT_DIR":        dir + string(filepath.ListSeparator) + filepath.Join(dir, "absent"),
		"SSL_CERT_FILE":       a,
		"CURL_CA_BUNDLE":      a,
		"NODE_EXTRA_CA_CERTS": b,
		"REQUESTS_CA_BUNDLE":  filepath.Join(dir, "absent.pem"),
		"CONDA_SSL_VERIFY":    "true",
		"PATH":                dir,
	}
	got := CallerBundles(func(name string) string { return env[name] })
	if d := cmp.Diff([]string{dir, a, b}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestKeytoolListsTheTrustStore(t *testing.T) {
	keytool, err := exec.LookPath("keytool")
	if err != nil {
		t.Skip(err)
	}
	same := [][]byte{newRoot(t, "Same Name"), newRoot(t, "same name")}
	files := write(t, t.TempDir(), encode(newRoot(t, "larder root")), writeFile(t, filepath.Join(t.TempDir(), "x.pem"), encode(same...)))
	out, err := exec.Command(keytool, "-list", "-keystore", files.TrustStore, "-storepass", files.TrustStorePassword).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, want := strings.Count(string(out), "trustedCertEntry"), len(trustStore(t, files)); got != want {
		t.Errorf("keytool lists %d roots, want %d", got, want)
	}
	if !strings.Contains(string(out), "larder root (") {
		t.Errorf("no alias of larder's root:\n%s", out)
	}
}

func TestAptReadsItsConfiguration(t *testing.T) {
	apt, err := exec.LookPath("apt-config")
	if err != nil {
		t.Skip(err)
	}
	files := write(t, filepath.Join(t.TempDir(), "with blank"), encode(newRoot(t, "larder root")))
	cmd := exec.Command(apt, "dump", "Acquire::https::CaInfo")
	cmd.Env = append(os.Environ(), "APT_CONFIG="+files.AptConf)
	out, err := cmd.CombinedOutput()
	if want := `Acquire::https::CaInfo "` + files.Bundle + `";`; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v, %s, want %s", err, out, want)
	}
}

func BenchmarkWriteUnchanged(b *testing.B) {
	dir, root := b.TempDir(), encode(newRoot(b, "larder root"))
	write(b, dir, root)
	for b.Loop() {
		write(b, dir, root)
	}
}

func BenchmarkWriteNew(b *testing.B) {
	root := encode(newRoot(b, "larder root"))
	for b.Loop() {
		write(b, b.TempDir(), root)
	}
}
