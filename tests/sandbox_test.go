package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// commandLimit ends a client that hangs, so that its output shows in the log
// of the test instead of in that of a killed test run.
const commandLimit = 2 * time.Minute

// requireClient skips the test when a client is missing, and fails it where
// clients are promised to be there (.ci/run).
func requireClient(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if os.Getenv("LARDER_REQUIRE_CLIENTS") != "" {
			t.Fatalf("client %s is missing, and LARDER_REQUIRE_CLIENTS is set", name)
		}
		t.Skipf("client %s is not installed", name)
	}
}

// privateDir is a folder that other users may enter, unlike t.TempDir: apt's
// methods run as a user of their own. Its name is short, because Unix socket
// addresses are.
func privateDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ldr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Some clients leave read-only folders behind.
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				_ = os.Chmod(path, 0o755)
			}
			return nil
		})
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the test's folder: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// mkdir makes a folder below dir.
func mkdir(t testing.TB, elem ...string) string {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// writeFile writes text below dir and returns the path.
func writeFile(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	mkdir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// hermetic is an environment with nothing of the caller's but where the tools
// are: no proxy, no CA, no client's settings. HOME is a folder of the test's.
func hermetic(home string, extra ...string) []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + home,
		"XDG_STATE_HOME=" + filepath.Join(home, "state"),
		"XDG_CACHE_HOME=" + filepath.Join(home, "cache"),
		"XDG_CONFIG_HOME=" + filepath.Join(home, "config"),
		"LANG=C.UTF-8",
		"TMPDIR=" + os.TempDir(),
	}
	// Version managers keep the tools below the user's home, which is not HOME here.
	user, err := os.UserHomeDir()
	if err == nil {
		for name, folder := range map[string]string{"RUSTUP_HOME": ".rustup", "PYENV_ROOT": ".pyenv"} {
			path := os.Getenv(name)
			if path == "" {
				path = filepath.Join(user, folder)
			}
			if _, err := os.Stat(path); err == nil {
				env = append(env, name+"="+path)
			}
		}
	}
	return append(env, extra...)
}

// command is a program to run as a user would.
type command struct {
	argv  []string
	env   []string // besides the hermetic environment
	dir   string   // working directory, and HOME
	stdin string
	as    *syscall.Credential // nil: whoever runs the test
	// inherit takes the caller's environment in place of the hermetic one.
	inherit bool
}

// result is how a command ended.
type result struct {
	code           int // -1: ended by a signal
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\nstdout:\n%s\nstderr:\n%s", r.code, r.stdout, r.stderr)
}

// run runs a command to its end. A command that cannot be run at all fails the
// test; an exit code does not.
func (c command) run(t testing.TB) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir = c.dir
	if c.inherit {
		cmd.Env = append(os.Environ(), c.env...)
	} else {
		cmd.Env = hermetic(c.dir, c.env...)
	}
	cmd.Stdin = strings.NewReader(c.stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.as}
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s: not done after %v\nstdout:\n%s\nstderr:\n%s", c.argv, commandLimit, &stdout, &stderr)
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatalf("%s: %v\nstderr:\n%s", c.argv, err, &stderr)
	}
	return result{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}
