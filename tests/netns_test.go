package tests

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// namespace is a network of its own, without any way out but what the test adds.
type namespace struct {
	pid  int      // of a process that holds it
	file *os.File // /proc/PID/ns/net
	// resolv, if set, stands for /etc/resolv.conf for commands in it.
	resolv string
}

// requireNamespaces skips the test where network namespaces and nftables are not
// to be had, and fails it where they are promised (.ci/run). An ordinary user's
// test runs again as root of a user namespace; done is true then.
func requireNamespaces(t *testing.T) (done bool) {
	t.Helper()
	requireClient(t, "ip", "nft", "nsenter", "unshare", "setpriv", "curl")
	probe := []string{"unshare", "--net", "nft", "list", "ruleset"}
	if os.Geteuid() != 0 {
		probe = append([]string{"unshare", "--user", "--map-root-user"}, probe...)
	}
	if out, err := exec.Command(probe[0], probe[1:]...).CombinedOutput(); err != nil {
		reason := fmt.Sprintf("network namespaces with nftables are not to be had here: %v: %s", err, out)
		if os.Getenv("LARDER_REQUIRE_CLIENTS") != "" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	if os.Geteuid() == 0 {
		return false
	}
	again := exec.Command("unshare", "--user", "--map-root-user", "--net", os.Args[0], "-test.v", "-test.run", "^"+t.Name()+"$")
	out, err := again.CombinedOutput()
	t.Logf("in a user namespace:\n%s", out)
	if err != nil {
		t.Errorf("in a user namespace: %v", err)
	}
	return true
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	holder := exec.Command("sleep", "600")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	must(t, holder.Start())
	t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait() // it was killed
	})
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid))
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	n := &namespace{pid: holder.Process.Pid, file: f}
	n.setup(t, "ip link set lo up")
	return n
}

// argv is a command line that runs a command in the namespace.
func (n *namespace) argv(argv ...string) []string {
	in := []string{"nsenter", "--net=/proc/" + strconv.Itoa(n.pid) + "/ns/net"}
	if n.resolv != "" {
		in = append(in, "unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, n.resolv)
	}
	return append(in, argv...)
}

// setup runs lines of shell that must succeed.
func (n *namespace) setup(t *testing.T, lines ...string) {
	t.Helper()
	argv := n.argv("sh", "-euc", strings.Join(lines, "\n"))
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("set up the network: %v\n%s\n%s", err, strings.Join(lines, "\n"), out)
	}
}

// do calls f with its thread in the namespace: sockets that it opens belong there.
// The thread comes back: if it ended, the system would end what was started on it.
func (n *namespace) do(t *testing.T, f func()) {
	t.Helper()
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	must(t, err)
	defer home.Close()
	must(t, unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET))
	f()
	must(t, unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)) // else the thread stays locked, and ends with the test
	runtime.UnlockOSThread()
}
