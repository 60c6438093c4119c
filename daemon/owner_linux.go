package daemon

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// errNoOwner says that no process has the other end of a connection any more.
// The kernel then calls it root's, which it need not be.
var errNoOwner = errors.New("no process has the other end")

// ownerOfPeer says who made the socket at the other end of a connection on this
// machine. ok is false where the system does not tell.
func ownerOfPeer(c *net.TCPConn) (o owner, ok bool, err error) {
	local, remote := addrPort(c.LocalAddr()), addrPort(c.RemoteAddr())
	o, err = askSockDiag(remote, local)
	if err == nil || errors.Is(err, errNoOwner) {
		return o, true, err
	}
	// The kernel was built without it, or a sandbox refuses or imitates it.
	diag := err
	found := false
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		o, err := lookUpOwner(table, remote, local)
		if err == nil || errors.Is(err, errNoOwner) {
			return o, true, err
		}
		found = found || errors.Is(err, errNoSocket)
	}
	if found || errors.Is(diag, errNoSocket) {
		return owner{}, true, errNoSocket
	}
	return owner{}, false, nil
}

// errNoSocket says that there is no such connection.
var errNoSocket = errors.New("no such connection")

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Sizes of struct inet_diag_req_v2 and struct inet_diag_msg, and where their
// struct inet_diag_sockid begins (linux/inet_diag.h).
const (
	diagRequest = 56
	diagAnswer  = 72
	diagReqID   = 8
	diagMsgID   = 4
)

// askSockDiag asks the kernel for one socket, that of the end at local
// (sock_diag(7)). It needs no privilege, and the answer is not a table that
// grows with the machine's connections.
func askSockDiag(local, remote netip.AddrPort) (owner, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return owner{}, err
	}
	defer unix.Close(fd)
	// The answer is there when Sendto returns; this is for imitations.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return owner{}, err
	}
	if err := unix.Sendto(fd, diagMessage(local, remote), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return owner{}, err
	}
	buf := make([]byte, 8192)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return owner{}, err
		}
		return readDiag(buf[:n], remote.Port())
	}
}

func diagMessage(local, remote netip.AddrPort) []byte {
	m := make([]byte, unix.NLMSG_HDRLEN+diagRequest)
	binary.NativeEndian.PutUint32(m[0:], uint32(len(m)))
	binary.NativeEndian.PutUint16(m[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST)
	q := m[unix.NLMSG_HDRLEN:]
	q[0], q[1] = unix.AF_INET, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(q[4:], ^uint32(0)) // in any state
	id := q[diagReqID:]
	binary.BigEndian.PutUint16(id[0:], local.Port())
	binary.BigEndian.PutUint16(id[2:], remote.Port())
	copy(id[4:], local.Addr().AsSlice())
	copy(id[20:], remote.Addr().AsSlice())
	// No cookie: whatever socket it is.
	binary.NativeEndian.PutUint64(id[40:], ^uint64(0))
	return m
}

func readDiag(m []byte, remotePort uint16) (owner, error) {
	if len(m) < unix.NLMSG_HDRLEN+4 {
		return owner{}, io.ErrUnexpectedEOF
	}
	kind, body := binary.NativeEndian.Uint16(m[4:]), m[unix.NLMSG_HDRLEN:]
	switch {
	case kind == unix.NLMSG_ERROR:
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
		if errno == unix.ENOENT {
			return owner{}, errNoSocket // or no such service: see the caller
		}
		return owner{}, errno
	case kind != unix.SOCK_DIAG_BY_FAMILY || len(body) < diagAnswer:
		return owner{}, fmt.Errorf("netlink message %d of %d bytes", kind, len(m))
	}
	// Where there is no such connection, the kernel names who listens there.
	if binary.BigEndian.Uint16(body[diagMsgID+2:]) != remotePort {
		return owner{}, errNoSocket
	}
	o := owner{uid: int(binary.NativeEndian.Uint32(body[64:])), inode: uint64(binary.NativeEndian.Uint32(body[68:]))}
	if o.inode == 0 {
		return owner{}, errNoOwner
	}
	return o, nil
}

// lookUpOwner finds the same in a table of proc(5).
func lookUpOwner(table string, local, remote netip.AddrPort) (owner, error) {
	f, err := os.Open(table)
	if err != nil {
		return owner{}, err
	}
	defer f.Close()
	return scanTable(f, strings.HasSuffix(table, "6"), local, remote)
}

func scanTable(table io.Reader, v6 bool, local, remote netip.AddrPort) (owner, error) {
	wantLocal, wantRemote := procAddress(local, v6), procAddress(remote, v6)
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		// sl local_address rem_address st queues timer retrnsmt uid timeout inode
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[1] != wantLocal || fields[2] != wantRemote {
			continue
		}
		uid, err := strconv.Atoi(fields[7])
		inode, err2 := strconv.ParseUint(fields[9], 10, 64)
		if err := errors.Join(err, err2); err != nil {
			return owner{}, err
		}
		if inode == 0 {
			return owner{}, errNoOwner
		}
		return owner{uid: uid, inode: inode}, nil
	}
	if err := lines.Err(); err != nil {
		return owner{}, err
	}
	return owner{}, errNoSocket
}

// procAddress writes an address as the kernel does: words of four bytes in the
// machine's order.
func procAddress(a netip.AddrPort, v6 bool) string {
	raw := a.Addr().AsSlice()
	if v6 {
		mapped := a.Addr().As16()
		raw = mapped[:]
	}
	var b strings.Builder
	for ; len(raw) >= 4; raw = raw[4:] {
		fmt.Fprintf(&b, "%08X", binary.NativeEndian.Uint32(raw))
	}
	fmt.Fprintf(&b, ":%04X", a.Port())
	return b.String()
}

// descends reports whether a process that has the socket descends from the
// process root, or is it. One that left its parents, as daemons do, does not.
func descends(inode uint64, root int) bool {
	link := fmt.Sprintf("socket:[%d]", inode)
	for _, pid := range descendants(root) {
		dir := "/proc/" + strconv.Itoa(pid) + "/fd"
		names, err := readNames(dir)
		if err != nil {
			continue // it has ended
		}
		for _, name := range names {
			if to, err := os.Readlink(dir + "/" + name); err == nil && to == link {
				return true
			}
		}
	}
	return false
}

func descendants(root int) []int {
	names, err := readNames("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if parent, err := parentOf(pid); err == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	all, seen := []int{root}, map[int]bool{root: true}
	for i := 0; i < len(all); i++ {
		for _, pid := range children[all[i]] {
			// Numbers are given anew while this goes on, so there may be circles.
			if !seen[pid] {
				seen[pid] = true
				all = append(all, pid)
			}
		}
	}
	return all
}

func parentOf(pid int) (int, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// pid (name) state ppid: the name may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0, fs.ErrInvalid
	}
	return strconv.Atoi(string(fields[1]))
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}
