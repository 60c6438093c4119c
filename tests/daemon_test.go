package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// daemonPID is the process that the lock file of the state folder names, 0 when
// there is none.
func (in *instance) daemonPID() int {
	data, err := os.ReadFile(filepath.Join(in.state, "run", "daemon.lock"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(data), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || !in.isLarder(pid) {
		return 0
	}
	return pid
}

// isLarder tells whether a process is one of this instance's program.
func (in *instance) isLarder(pid int) bool { return isProgram(pid, in.larder) }

// endDaemon ends the background larder of this instance when the test does, and
// fails the test if it has to be killed.
func (in *instance) endDaemon(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		if err := in.stopDaemon(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			if log, err := os.ReadFile(filepath.Join(in.state, "run", "daemon.log")); err == nil {
				t.Logf("log of the background larder:\n%s", log)
			}
		}
	})
}

// stopDaemon ends the background larder, if there is one, as an operator would.
func (in *instance) stopDaemon() error {
	pid := in.daemonPID()
	if pid == 0 {
		return nil
	}
	_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended just now
	if !eventually(func() bool { return !in.isLarder(pid) }, nil) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		return fmt.Errorf("background larder %d did not end at SIGTERM", pid)
	}
	return nil
}
