package ca

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const childVariable = "LARDER_CA_TEST_OPEN"

// TestMain lets the test binary be a second process that opens an authority.
func TestMain(m *testing.M) {
	dir := os.Getenv(childVariable)
	if dir == "" {
		os.Exit(m.Run())
	}
	bufio.NewReader(os.Stdin).ReadString('\n')
	a, err := Open(Options{Dir: dir})
	if err != nil {
		os.Stdout.WriteString(err.Error())
		if hint, ok := errors.AsType[interface {
			error
			Hint() string
		}](err); ok {
			os.Stdout.WriteString("\n" + hint.Hint())
		}
		os.Exit(3)
	}
	os.Stdout.WriteString(a.Fingerprint())
	os.Exit(0)
}

func TestOpenMakesKeysThatNobodyElseReads(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	a := open(t, Options{Dir: filepath.Join(t.TempDir(), "state", "ca")})
	want := map[string]fs.FileMode{
		".": 0o700, "root.key": 0o600, "issuing.key": 0o600, "root.crt": 0o644, "issuing.crt": 0o644, "lock": 0o600,
		"issued.log": 0o600,
	}
	entries, err := os.ReadDir(a.dir)
	if err != nil || len(entries) != len(want)-1 {
		t.Errorf("%d files, %v: %v", len(entries), err, entries)
	}
	for name, mode := range want {
		if info, err := os.Stat(filepath.Join(a.dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want mode %v", name, info, err, mode)
		}
	}
	if info, err := os.Stat(filepath.Dir(a.dir)); err != nil || info.Mode().Perm() != 0o777&^0o022 {
		t.Errorf("folder above: %v, %v", info.Mode(), err)
	}
}

func TestOpenRefusesLooseModes(t *testing.T) {
	for _, tt := range []struct {
		file string
		mode fs.FileMode
		hint string
	}{
		{"root.key", 0o644, "chmod 600 "},
		{"root.key", 0o640, "chmod 600 "},
		{"issuing.key", 0o604, "chmod 600 "},
		{"", 0o755, "chmod 700 "},
		{"", 0o710, "chmod 700 "},
	} {
		dir := open(t, Options{}).dir
		path := filepath.Join(dir, tt.file)
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Options{Dir: dir})
		problem, ok := errors.AsType[*FileError](err)
		if !ok {
			t.Errorf("%s with mode %v: %v, want a *FileError", path, tt.mode, err)
			continue
		}
		if problem.Hint() != tt.hint+path || !strings.Contains(err.Error(), path+" has mode 0") {
			t.Errorf("%v\nhint: %s", err, problem.Hint())
		}
		// What the hint says mends it.
		if out, err := exec.Command("sh", "-c", problem.Hint()).CombinedOutput(); err != nil {
			t.Errorf("%s: %v, %s", problem.Hint(), err, out)
		}
		open(t, Options{Dir: dir})
	}
}

func TestOpenSaysWhichFileIsDamaged(t *testing.T) {
	other := open(t, Options{}).dir
	read := func(dir, name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	write := func(name string, data []byte) func(string) {
		return func(dir string) {
			mode := fs.FileMode(0o600)
			if err := os.WriteFile(filepath.Join(dir, name), data, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(names ...string) func(string) {
		return func(dir string) {
			for _, name := range names {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	restore, renew := "restore root.crt and root.key", "rm -f"
	tests := []struct {
		name   string
		damage func(dir string)
		file   string
		says   string
		hint   string
	}{
		{"empty root certificate", write("root.crt", nil), "root.crt", "damaged", restore},
		{"root certificate that is none", write("root.crt", []byte("hello")), "root.crt", "damaged", restore},
		{"root certificate cut short", func(dir string) {
			write("root.crt", bytes.Replace(read(dir, "root.crt"), []byte("\nMII"), []byte("\nAAAA"), 1))(dir)
		}, "root.crt", "damaged", restore},
		{"two root certificates", func(dir string) {
			write("root.crt", append(read(dir, "root.crt"), read(other, "root.crt")...))(dir)
		}, "root.crt", "more than one", restore},
		{"leaf for a root", func(dir string) { write("root.crt", read(dir, "issuing.crt"))(dir) }, "root.key", "not the key", restore},
		{"intermediate for a root", func(dir string) {
			write("root.crt", read(dir, "issuing.crt"))(dir)
			write("root.key", read(dir, "issuing.key"))(dir)
		}, "root.crt", "not signed by itself", restore},
		{"empty root key", write("root.key", nil), "root.key", "damaged", restore},
		{"other root key", write("root.key", read(other, "root.key")), "root.key", "not the key", restore},
		{"root key that is none", write("root.key", read(other, "root.crt")), "root.key", "damaged", restore},
		{"root certificate lost", remove("root.crt"), "root.crt", "missing", restore},
		{"root lost", remove("root.crt", "root.key"), "root.crt", "missing", restore},
		{"empty intermediate", write("issuing.crt", nil), "issuing.crt", "damaged", renew},
		{"other intermediate", write("issuing.crt", read(other, "issuing.crt")), "issuing.key", "not the key", renew},
		{"other intermediate and key", func(dir string) {
			write("issuing.crt", read(other, "issuing.crt"))(dir)
			write("issuing.key", read(other, "issuing.key"))(dir)
		}, "issuing.crt", "not signed by root.crt", renew},
		{"damaged intermediate key", write("issuing.key", []byte("-----BEGIN EC PRIVATE KEY-----\n")), "issuing.key", "damaged", renew},
		{"intermediate key lost", remove("issuing.key"), "issuing.key", "missing", renew},
		{"intermediate certificate lost", remove("issuing.crt"), "issuing.crt", "missing", renew},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := open(t, Options{})
			tt.damage(a.dir)
			_, err := Open(Options{Dir: a.dir})
			problem, ok := errors.AsType[*FileError](err)
			if !ok {
				t.Fatalf("%v, want a *FileError", err)
			}
			if problem.Path != filepath.Join(a.dir, tt.file) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %s and %q", err, tt.file, tt.says)
			}
			if !strings.Contains(problem.Hint(), tt.hint) {
				t.Errorf("hint %q, want %q in it", problem.Hint(), tt.hint)
			}
			if strings.Contains(err.Error(), "PRIVATE") || strings.Contains(err.Error(), "\n") {
				t.Errorf("message shows content: %q", err)
			}
			if tt.hint != renew {
				return
			}
			_, command, _ := strings.Cut(problem.Hint(), ": ")
			if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v, %s", command, err, out)
			}
			if open(t, Options{Dir: a.dir}).Fingerprint() != a.Fingerprint() {
				t.Error("the hint costs the root")
			}
		})
	}
}

func TestOpenWithoutRootKey(t *testing.T) {
	dir := open(t, Options{PermittedDNS: []string{"example.org"}}).dir
	key := filepath.Join(dir, "root.key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	a := open(t, Options{Dir: dir, PermittedDNS: []string{"example.org"}})
	leaf(t, a, "example.org")
	err := a.Permit([]string{"example.org", "other.test"})
	if problem, ok := errors.AsType[*FileError](err); !ok || problem.Path != key || problem.Hint() == "" {
		t.Errorf("Permit without the root key: %v", err)
	}
	leaf(t, a, "example.org")
	if _, err := Open(Options{Dir: dir}); err == nil {
		t.Error("Open promises more than the intermediate allows")
	}
}

// TestCrashWhileRenewing stops store after each of its steps, and loses what is
// not on the disk by then.
func TestCrashWhileRenewing(t *testing.T) {
	for _, base := range []string{"root", "issuing"} {
		before, after := open(t, Options{}), open(t, Options{})
		for step, files := range [][]string{
			{".key", ".crt"}, // nothing was done
			{".key", ".crt", ".key.next!"},
			{".key", ".crt", ".key.next"},
			{".key", ".crt", ".key.next", ".crt.next!"},
			{".key", ".crt", ".key.next", ".crt.next"},
			{".key", ".crt+", ".key.next"},
			{".key+", ".crt+"},
		} {
			dir := filepath.Join(t.TempDir(), "ca")
			f, err := openFolder(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				name, torn := strings.CutSuffix(file, "!")
				name, renewed := strings.CutSuffix(name, "+")
				source := before.dir
				if renewed || strings.HasSuffix(name, next) {
					source = after.dir
				}
				data, err := os.ReadFile(filepath.Join(source, base+strings.TrimSuffix(name, next)))
				if err != nil {
					t.Fatal(err)
				}
				if torn {
					data = data[:len(data)/2]
				}
				if err := os.WriteFile(filepath.Join(dir, base+name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := f.load(base, "")
			if err != nil || got.key == nil || !matches(got.key, got.cert) {
				t.Errorf("%s, step %d: %v", base, step, err)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*"+next)); len(left) > 0 {
				t.Errorf("%s, step %d: leaves %v", base, step, left)
			}
			f.close()
		}
	}
}

func TestCrashBeforeThereIsARoot(t *testing.T) {
	for _, name := range []string{"root.key.next", "lock"} {
		dir := filepath.Join(t.TempDir(), "ca")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("-----BEGIN"), 0o600); err != nil {
			t.Fatal(err)
		}
		open(t, Options{Dir: dir})
	}
}

func TestOpenAtOnceInOneProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "ca")
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	for range 16 {
		wg.Go(func() {
			a, err := Open(Options{Dir: dir})
			if err != nil {
				t.Error(err)
				return
			}
			defer a.Close()
			mu.Lock()
			defer mu.Unlock()
			seen[a.Fingerprint()+string(a.Issuing().Raw)] = true
		})
	}
	wg.Wait()
	if len(seen) != 1 {
		t.Errorf("%d authorities in one folder", len(seen))
	}
}

func TestOpenAtOnceInManyProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "ca")
	start, starter, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var outputs [8]bytes.Buffer
	var children []*exec.Cmd
	for i := range outputs {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childVariable+"="+dir)
		child.Stdin, child.Stdout = start, &outputs[i]
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, child)
	}
	start.Close()
	starter.Close() // all of them go
	for i, child := range children {
		if err := child.Wait(); err != nil {
			t.Errorf("%v: %s", err, &outputs[i])
		}
	}
	want := open(t, Options{Dir: dir}).Fingerprint()
	for i := range outputs {
		if outputs[i].String() != want {
			t.Errorf("process %d has %s, want %s", i, &outputs[i], want)
		}
	}
}

// TestOpenInFolderThatIsReadOnly opens as another user where this one is root,
// whom no mode holds back.
func TestOpenInFolderThatIsReadOnly(t *testing.T) {
	parent, err := os.MkdirTemp("", "larder-ca-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(parent, 0o700); os.RemoveAll(parent) })
	binary := filepath.Join(parent, "ca.test")
	data, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, data, 0o755); err != nil {
		t.Fatal(err)
	}
	uid, credential := os.Getuid(), (*syscall.Credential)(nil)
	if uid == 0 {
		uid, credential = 65534, &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	run := func(dir string) (string, error) {
		child := exec.Command(binary)
		child.Env = []string{childVariable + "=" + dir}
		child.Dir = "/"
		child.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
		out, err := child.Output()
		return string(out), err
	}
	empty, full := filepath.Join(parent, "empty"), filepath.Join(parent, "full")
	if err := os.Mkdir(empty, 0o500); err != nil {
		t.Fatal(err)
	}
	a := open(t, Options{Dir: full})
	for _, path := range []string{empty, full} {
		entries, _ := filepath.Glob(filepath.Join(path, "*"))
		for _, file := range append(entries, path) {
			if err := os.Chown(file, uid, -1); err != nil {
				t.Fatal(err)
			}
		}
	}
	os.Remove(filepath.Join(full, "lock"))
	os.Chmod(full, 0o500)
	os.Chmod(parent, 0o555)

	for _, dir := range []string{empty, filepath.Join(parent, "absent")} {
		out, err := run(dir)
		if err == nil || !strings.Contains(out, dir+" cannot be ") || !strings.Contains(out, "permission denied") || !strings.Contains(out, "--state") {
			t.Errorf("open in %s: %v\n%s", dir, err, out)
		}
	}
	if out, err := run(full); err != nil || out != a.Fingerprint() {
		t.Errorf("an authority that needs no change is not opened where nothing can be written: %v\n%s", err, out)
	}
}

func TestParseCertificateTakesOneOnly(t *testing.T) {
	a := open(t, Options{})
	if cert, err := parseCertificate(append(a.RootPEM(), "\n \n"...)); err != nil || !cert.Equal(a.Root()) {
		t.Errorf("with blanks at the end: %v", err)
	}
	if _, err := parseCertificate(bytes.Replace(a.RootPEM(), []byte("CERTIFICATE"), []byte("TRUSTED CERTIFICATE"), 2)); err == nil {
		t.Error("OpenSSL's trusted certificates are taken")
	}
	if got := x509.NewCertPool(); !got.AppendCertsFromPEM(a.RootPEM()) {
		t.Error("RootPEM is no PEM")
	}
}
