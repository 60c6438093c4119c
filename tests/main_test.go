package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// built is the path of the program once program has built it.
var built atomic.Pointer[string]

// program is the larder that every test here drives from outside: built once,
// at the first test that asks, from the tree that the tests lie in.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "larder-build-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "larder")
	built.Store(&path)
	args := []string{"build", "-o", path}
	if os.Getenv("LARDER_TEST_RACE") != "" {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "larder/cmd/larder")...)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build larder: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path := built.Load(); path != nil {
		for _, pid := range running(*path) {
			fmt.Fprintf(os.Stderr, "a test left larder %d behind\n", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended just now
			code = max(code, 1)
		}
		os.RemoveAll(filepath.Dir(*path))
	}
	os.Exit(code)
}

// larderPath is the path of the built program.
func larderPath(t testing.TB) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// running are the processes whose program is at path.
func running(path string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err == nil && isProgram(pid, path) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// isProgram tells whether a process runs the program at path: a number that the
// system has given to somebody else must not be sent a signal.
func isProgram(pid int, path string) bool {
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return err == nil && strings.HasPrefix(string(line), path+"\x00")
}
