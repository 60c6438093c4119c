package daemon

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// testPort is a port whose connections get one byte.
func testPort(t *testing.T, g guard) *port {
	t.Helper()
	p, err := listenPort(g, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := p.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("x")) // the client says what it got
			c.Close()
		}
	}()
	t.Cleanup(func() { p.Close(); <-done })
	return p
}

func TestPortRefusesOtherUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	const person, service = 4711, 42
	r := newRole(t)
	run := startRun(t, connect(t, r))
	url := "http://" + run.ProxyAddr + "/hit/1"

	// The processes of the first two descend from the run, which this one has.
	for uid, want := range map[uint32]string{person: "served", service: "served", 0: "served"} {
		if got := asUser(t, uid, "test-get", url); got != want+"\n" {
			t.Errorf("user %d below the run is %q, want %s", uid, got, want)
		}
	}

	// Now the run is another process's.
	p := startClient(t, r)
	_, proxy := p.started(t)
	url = "http://" + proxy + "/hit/1"
	for uid, want := range map[uint32]string{person: "cut", 65534: "cut", service: "served", 0: "served"} {
		if got := asUser(t, uid, "test-get", url); got != want+"\n" {
			t.Errorf("user %d is %q, want %s", uid, got, want)
		}
	}
	if log := logOf(t, r); !strings.Contains(log, "it is of user 4711, and this is user 0's") && !strings.Contains(log, "it is of user 65534") {
		t.Errorf("the log does not say who was refused:\n%s", log)
	}
}

// A user's daemon admits nobody but this user and root.
func TestGuardOfAUser(t *testing.T) {
	for uid, want := range map[int]bool{1000: true, 0: true, 1001: false, 42: false, 65534: false} {
		g := guard{me: 1000, runner: os.Getpid(), ask: func(*net.TCPConn) (owner, bool, error) { return owner{uid: uid}, true, nil }}
		if err := g.admit(nil); (err == nil) != want {
			t.Errorf("user %d: %v, want admitted: %v", uid, err, want)
		}
	}
	unknown := guard{me: 1000, ask: func(*net.TCPConn) (owner, bool, error) { return owner{}, false, nil }}
	if err := unknown.admit(nil); err != nil {
		t.Errorf("where the system does not tell: %v", err)
	}
	failing := guard{me: 1000, ask: func(*net.TCPConn) (owner, bool, error) { return owner{}, true, errNoOwner }}
	if err := failing.admit(nil); !errors.Is(err, errNoOwner) {
		t.Errorf("a connection without owner: %v, want it refused", err)
	}
}

// The kernel calls a socket root's which no process has any more.
func TestPortRefusesWhomNobodyHas(t *testing.T) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	client.Close()
	server, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if o, ok, err := ownerOfPeer(server); err == nil || !ok {
		t.Errorf("owner %+v, %v, %v; want an error", o, ok, err)
	}
	for _, table := range []string{"/proc/net/tcp"} {
		if o, err := lookUpOwner(table, addrPort(server.RemoteAddr()), addrPort(server.LocalAddr())); err == nil {
			t.Errorf("%s: owner %+v, want an error", table, o)
		}
	}
}

// pair returns the accepted end of a connection from a client that dial makes.
func pair(t *testing.T, dial func(port int) error) *net.TCPConn {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := dial(l.Addr().(*net.TCPAddr).Port); err != nil {
		t.Fatal(err)
	}
	c, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestBothWaysToAskAgree(t *testing.T) {
	for name, table := range map[string]string{"tcp4": "/proc/net/tcp", "tcp6": "/proc/net/tcp6"} {
		t.Run(name, func(t *testing.T) {
			var inode uint64
			c := pair(t, func(port int) error {
				family, to := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
				if name == "tcp6" { // as JVMs connect
					family, to = unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}
				}
				fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					return err
				}
				t.Cleanup(func() { unix.Close(fd) })
				var st unix.Stat_t
				if err := unix.Fstat(fd, &st); err != nil {
					return err
				}
				inode = st.Ino
				return unix.Connect(fd, to)
			})
			want := owner{uid: os.Getuid(), inode: inode}
			peer, here := addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())
			if got, err := askSockDiag(peer, here); err != nil || got != want {
				t.Errorf("sock_diag: %+v, %v; want %+v", got, err, want)
			}
			if got, err := lookUpOwner(table, peer, here); err != nil || got != want {
				t.Errorf("%s: %+v, %v; want %+v", table, got, err, want)
			}
			if got, ok, err := ownerOfPeer(c); err != nil || !ok || got != want {
				t.Errorf("ownerOfPeer: %+v, %v, %v; want %+v", got, ok, err, want)
			}
		})
	}
}

// Where a connection is gone, the kernel answers with who listens on its port.
func TestAskingForNoConnection(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	listening := addrPort(l.Addr())
	nobody := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 1)
	if got, err := askSockDiag(listening, nobody); !errors.Is(err, errNoSocket) {
		t.Errorf("sock_diag: %+v, %v; want errNoSocket", got, err)
	}
	if got, err := lookUpOwner("/proc/net/tcp", listening, nobody); !errors.Is(err, errNoSocket) {
		t.Errorf("/proc/net/tcp: %+v, %v; want errNoSocket", got, err)
	}
}

func TestDescends(t *testing.T) {
	cmd := exec.Command("sh", "-c", "cat; exit 0")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := testPort(t, newGuard(0))
	c, err := net.Dial("tcp4", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for what, tt := range map[string]struct {
		inode uint64
		root  int
		want  bool
	}{
		"this process":       {st.Ino, os.Getpid(), true},
		"the child":          {st.Ino, cmd.Process.Pid, true},
		"its parent":         {st.Ino, os.Getppid(), true},
		"another socket":     {1, os.Getpid(), false},
		"no process of ours": {st.Ino, 1 << 30, false},
	} {
		if got := descends(tt.inode, tt.root); got != tt.want {
			t.Errorf("%s: %v, want %v", what, got, tt.want)
		}
	}
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Error(err)
	}
}

func BenchmarkAskWhosePeer(b *testing.B) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp4", "127.0.0.1:"+strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	c, err := l.AcceptTCP()
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for b.Loop() {
		if _, _, err := ownerOfPeer(c); err != nil {
			b.Fatal(err)
		}
	}
}
