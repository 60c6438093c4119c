package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDefaultPaths(t *testing.T) {
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		flag string
		env  map[string]string
		uid  int
		want Paths
	}{
		{"root has the system's folder", "", map[string]string{"HOME": "/root", "XDG_STATE_HOME": "/x"}, 0, Paths{"/var/lib/larder", "/var/lib/larder/store"}},
		{"a user has XDG's defaults", "", map[string]string{"HOME": "/home/u"}, 1000, Paths{"/home/u/.local/state/larder", "/home/u/.cache/larder/store"}},
		{"XDG variables are heeded", "", map[string]string{"XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "/c"}, 1000, Paths{"/s/larder", "/c/larder/store"}},
		{"relative XDG variables are ignored", "", map[string]string{"HOME": "/h", "XDG_STATE_HOME": "s", "XDG_CACHE_HOME": "./c"}, 1000, Paths{"/h/.local/state/larder", "/h/.cache/larder/store"}},
		{"the flag decides", "/f", map[string]string{"HOME": "/h", "XDG_CACHE_HOME": "/c"}, 1000, Paths{"/f", "/f/store"}},
		{"a relative flag is made absolute", "f", nil, 0, Paths{cwd + "/f", cwd + "/f/store"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := DefaultPaths(test.flag, func(n string) string { return test.env[n] }, test.uid)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	_, err = DefaultPaths("", func(string) string { return "" }, 1000)
	if helpful, ok := errors.AsType[*Error](err); !ok || !strings.Contains(helpful.Hint(), "--state") {
		t.Errorf("without HOME: %v, want a hint at --state", err)
	}
}

func TestCreateSetsModesWhateverTheUmask(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	p := Paths{State: filepath.Join(t.TempDir(), "a/b/state"), Store: filepath.Join(t.TempDir(), "store")}
	for range 2 { // the second finds everything there
		if err := p.Create(); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]fs.FileMode{p.State: 0o755, p.CA(): 0o700, p.Run(): 0o700, p.Trust(): 0o755, p.Store: 0o700} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := fi.Mode().Perm(); got != want {
			t.Errorf("%s: mode %04o, want %04o", path, got, want)
		}
		if left, err := filepath.Glob(path + "/.probe*"); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
}

func TestCreateSaysWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		name    string
		prepare func(p Paths) error
		want    string // with %s for the state folder
		hint    string
	}{
		{
			"a file in place of the folder",
			func(p Paths) error { return os.WriteFile(p.State, nil, 0o600) },
			"folder %s: is a file", "move it away",
		},
		{
			"a file in place of a parent",
			func(p Paths) error { return os.WriteFile(filepath.Dir(p.State), nil, 0o600) },
			"folder %s: stat", "",
		},
		{
			"a run folder that others can enter",
			func(p Paths) error { return errors.Join(p.Create(), os.Chmod(p.Run(), 0o755)) },
			"folder %s/run: mode 0755 lets other users in", "chmod 700 ",
		},
		{
			"a state folder that others can write in",
			func(p Paths) error { return errors.Join(p.Create(), os.Chmod(p.State, 0o777)) },
			"folder %s: mode 0777 lets other users write in it", "chmod go-w ",
		},
		{
			"a state folder that a group can write in",
			func(p Paths) error { return errors.Join(p.Create(), os.Chmod(p.State, 0o775)) },
			"folder %s: mode 0775 lets other users write in it", "chmod go-w ",
		},
		{
			"a trust folder that a group can write in",
			func(p Paths) error { return errors.Join(p.Create(), os.Chmod(p.Trust(), 0o775)) },
			"folder %s/trust: mode 0775 lets other users write in it", "chmod go-w ",
		},
		{
			"a sticky trust folder",
			func(p Paths) error { return errors.Join(p.Create(), os.Chmod(p.Trust(), 0o777|fs.ModeSticky)) },
			"folder %s/trust: mode 0777 lets other users write in it", "chmod go-w ",
		},
		{
			"a store that others can write in",
			func(p Paths) error { return errors.Join(p.Create(), os.Chmod(p.Store, 0o702)) },
			"folder %store: mode 0702 lets other users write in it", "chmod go-w ",
		},
		{
			"a run folder elsewhere",
			func(p Paths) error {
				return errors.Join(p.Create(), os.Remove(p.Run()), os.Symlink(os.TempDir(), p.Run()))
			},
			"folder %s/run: is not a folder", "remove it",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := Paths{State: filepath.Join(t.TempDir(), "parent", "state"), Store: filepath.Join(t.TempDir(), "store")}
			if !strings.Contains(test.name, "parent") {
				if err := os.Mkdir(filepath.Dir(p.State), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := test.prepare(p); err != nil {
				t.Fatal(err)
			}
			err := p.Create()
			want := strings.ReplaceAll(strings.ReplaceAll(test.want, "%store", p.Store), "%s", p.State)
			if err == nil || !strings.HasPrefix(err.Error(), strings.TrimSuffix(want, ": stat")) {
				t.Fatalf("Create: %v\nwant %s", err, want)
			}
			if helpful, ok := errors.AsType[*Error](err); !ok || !strings.HasPrefix(helpful.Hint(), test.hint) {
				t.Errorf("hint of %v does not begin with %q", err, test.hint)
			}
		})
	}
}

func TestStickyStateFolderIsAccepted(t *testing.T) {
	p := Paths{State: filepath.Join(t.TempDir(), "state")}
	p.Store = filepath.Join(p.State, "store")
	if err := errors.Join(os.Mkdir(p.State, 0o700), os.Chmod(p.State, 0o777|fs.ModeSticky), p.Create()); err != nil {
		t.Error(err)
	}
}

func TestRootRefusesTheStateFolderOfAUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("is about root")
	}
	p := Paths{State: filepath.Join(t.TempDir(), "state")}
	p.Store = filepath.Join(p.State, "store")
	if err := errors.Join(os.Mkdir(p.State, 0o755), os.Chown(p.State, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	if err := p.Create(); err == nil || !strings.Contains(err.Error(), "belongs to user 65534, and this is user 0") {
		t.Errorf("Create: %v, want it refused", err)
	}
}

// asNobody runs this binary in a role as a user who may write nowhere, since root
// is stopped by no mode.
func asNobody(t *testing.T, args ...string) string {
	t.Helper()
	return asUser(t, 65534, args...)
}

// asUser is asNobody for another user, if this one is root.
func asUser(t *testing.T, uid uint32, args ...string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		out, _ := exec.Command(exe, args...).CombinedOutput()
		return string(out)
	}
	src, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dir := openDir(t)
	dst, err := os.OpenFile(dir+"/test", os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(dst, src)
	if err := errors.Join(err, dst.Close()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(dst.Name(), args...)
	cmd.Dir = dir
	// With -cover, there is a folder that it cannot write in, and it says so.
	cmd.Env = append(os.Environ(), "GOCOVERDIR="+coverDir(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, _ := cmd.CombinedOutput() // what it says is judged
	return string(out)
}

// coverDir is a folder that every user can write in.
func coverDir(t *testing.T) string {
	t.Helper()
	dir := openDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// openDir is a temporary folder that every user can enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestReadOnlyFolderIsOneLineThatHelps(t *testing.T) {
	dir := openDir(t)
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	for name, state := range map[string]string{"a folder to be made": dir + "/state", "a folder that is there": dir} {
		t.Run(name, func(t *testing.T) {
			r := role{State: state, Command: []string{"/nowhere"}}
			got := asNobody(t, r.args("test-client")...)
			want := fmt.Sprintf("larder: error: folder %s", state)
			if !strings.HasPrefix(got, want) || !strings.Contains(got, "permission denied\n") ||
				!strings.Contains(got, "larder: hint: make it writable for this user, or name another folder with --state") {
				t.Errorf("it said:\n%s", got)
			}
			if n := strings.Count(got, "\n"); n != 2 {
				t.Errorf("%d lines, want an error and a hint", n)
			}
		})
	}
}

func TestFolderOfAnotherUserIsOneLineThatHelps(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make another user's folder; TestReadOnlyFolder covers what others meet")
	}
	p := Paths{State: openDir(t)}
	p.Store = p.State + "/store"
	if err := p.Create(); err != nil {
		t.Fatal(err)
	}
	r := role{State: p.State, Command: []string{"/nowhere"}}
	got := asNobody(t, r.args("test-client")...)
	if !strings.Contains(got, "belongs to user 0, and this is user 65534\n") || !strings.Contains(got, "larder: hint: run larder as that user") {
		t.Errorf("it said:\n%s", got)
	}
}

func TestSocketRefusesOtherUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	path := openDir(t) + "/control.sock"
	l, err := listenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		defer close(accepted)
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	if out := asNobody(t, "test-dial", path); out != "" {
		t.Errorf("another user: %s", out)
	}
	l.Close()
	if c := <-accepted; c != nil {
		c.Close()
		t.Error("a connection of another user was accepted")
	}
}
