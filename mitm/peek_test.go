package mitm

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// helloOf records the first flight of crypto/tls's client.
func helloOf(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	done := make(chan struct{})
	go func() { // ends when server is closed
		defer close(done)
		_ = tls.Client(client, c).Handshake()
	}()
	b := make([]byte, 16<<10)
	n, err := server.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
	<-done
	return b[:n]
}

// recut cuts the handshake message of a hello into records of size bytes.
func recut(hello []byte, size int) (out []byte) {
	message := hello[5:]
	for len(message) > 0 {
		n := min(size, len(message))
		out = append(out, 22, 3, 1, byte(n>>8), byte(n))
		out = append(out, message[:n]...)
		message = message[n:]
	}
	return out
}

func TestPeekHelloOverAnySegmentsAndRecords(t *testing.T) {
	hello := helloOf(t, &tls.Config{ServerName: "registry.test", NextProtos: []string{"h2", "http/1.1"}})
	want := clientHello{ServerName: "registry.test", ALPN: []string{"h2", "http/1.1"}}
	for _, size := range []int{1, 3, 4, 5, 100, 16384} {
		cut := recut(hello, size)
		for n := range len(cut) {
			if kind, _ := peekHello(cut[:n]); kind != openingShort {
				t.Fatalf("records of %d bytes, %d of %d bytes: got %d, want openingShort", size, n, len(cut), kind)
			}
		}
		kind, got := peekHello(append(cut, "early data"...))
		if kind != openingHello {
			t.Errorf("records of %d bytes: got %d, want openingHello", size, kind)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("records of %d bytes:\n%s", size, d)
		}
	}
}

func TestPeekTellsTLSFromOther(t *testing.T) {
	hello := helloOf(t, &tls.Config{InsecureSkipVerify: true}) // no server name
	for _, c := range []struct {
		name string
		in   string
		want opening
	}{
		{"nothing", "", openingShort},
		{"a hello without server name", string(hello), openingHello},
		{"HTTP", "GET / HTTP/1.1\r\n", openingOther},
		{"SSH", "SSH-2.0-x\r\n", openingOther},
		{"the first byte of a record", "\x16", openingShort},
		{"an SSLv2 hello", "\x80\x2e\x01\x03\x01", openingOther},
		{"a record of version 2", "\x16\x02\x00", openingOther},
		{"an alert first", "\x15\x03\x01\x00\x02\x01\x00", openingOther},
		{"a server hello", "\x16\x03\x01\x00\x04\x02\x00\x00\x00", openingOther},
		{"an empty record", "\x16\x03\x01\x00\x00", openingOther},
		{"a record too long", "\x16\x03\x01\x40\x01", openingOther},
		{"a hello that breaks off in another record type", "\x16\x03\x01\x00\x02\x01\x00\x17\x03", openingHello},
		{"a hello with an empty record inside", "\x16\x03\x01\x00\x02\x01\x00\x16\x03\x01\x00\x00", openingHello},
		{"a hello of no content", "\x16\x03\x01\x00\x04\x01\x00\x00\x00", openingHello},
		{"a hello that never ends", string(recut(append([]byte{22, 3, 1, 0, 0, 1, 0xff, 0xff, 0xff}, make([]byte, maxHello)...), 16384)), openingHello},
	} {
		if got, _ := peekHello([]byte(c.in)); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

// FuzzPeekHello holds the peek against crypto/tls: where that gets as far as a
// ClientHello, the peek must have seen TLS and the same names.
func FuzzPeekHello(f *testing.F) {
	f.Add(helloOf(f, &tls.Config{ServerName: "a.test", NextProtos: []string{"h2"}}))
	f.Add(recut(helloOf(f, &tls.Config{ServerName: "a.test", MaxVersion: tls.VersionTLS12}), 7))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	stop := errors.New("seen")
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, hello := peekHello(b)
		for n := 0; n < len(b); n += 1 + n/8 {
			if k, _ := peekHello(b[:n]); k != openingShort && k != kind {
				t.Fatalf("%d bytes say %d, all say %d", n, k, kind)
			}
		}
		var seen *tls.ClientHelloInfo
		_ = tls.Server(&memoryConn{in: bytes.NewReader(b)}, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			seen = h
			return nil, stop
		}}).Handshake()
		if seen == nil {
			return
		}
		if kind != openingHello {
			t.Fatalf("crypto/tls sees a hello, peekHello says %d", kind)
		}
		if seen.ServerName != hello.ServerName {
			t.Fatalf("server name %q, crypto/tls %q", hello.ServerName, seen.ServerName)
		}
	})
}

// memoryConn reads from memory and swallows writes.
type memoryConn struct {
	net.Conn
	in *bytes.Reader
}

func (m *memoryConn) Read(p []byte) (int, error)  { return m.in.Read(p) }
func (m *memoryConn) Write(p []byte) (int, error) { return len(p), nil }
func (m *memoryConn) Close() error                { return nil }
