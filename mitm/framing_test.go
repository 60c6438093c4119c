package mitm

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// framedThrough gives all that net/http gets of data, which arrives in pieces, and why
// the rest was refused.
func framedThrough(data []byte, pieces func(io.Reader) io.Reader) (got []byte, why error) {
	var f framedReader
	from := pieces(bytes.NewReader(data))
	p := make([]byte, 4096)
	for {
		n, err := f.read(p, from.Read, func(e error) { why = errors.Join(why, e) })
		got = append(got, p[:n]...)
		if err != nil {
			return got, why
		}
	}
}

func TestFramingLetsCleanRequestsGoByAsTheyAre(t *testing.T) {
	clean := strings.Join([]string{
		"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\na\n\x00\r ",
		"POST / HTTP/1.1\r\nHost: a.test\r\ncontent-length:\t0005 \t\r\n\r\n\r\n\r\n ",
		"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\n\n\n\n\n\n\r\nA \r\n0123456789\r\n000\r\nX: 1\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n",
		"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.test\r\nUpgrade: x\r\nContent-Length: 3\r\n\r\nabc",
		"GET / HTTP/1.1\r\nHost: a.test\r\nX-Content-Length-Of-Something-Else: 1\r\nX-Content-Length-Of-Something-Else: 2\r\nContent-Lengths: x\r\n\r\n",
	}, "")
	for name, pieces := range map[string]func(io.Reader) io.Reader{
		"at once": func(r io.Reader) io.Reader { return r }, "by the byte": iotest.OneByteReader, "by halves": iotest.HalfReader, "with its end": iotest.DataErrReader,
	} {
		if got, why := framedThrough([]byte(clean), pieces); string(got) != clean || why != nil {
			t.Errorf("%s: %v, got %q", name, why, got)
		}
	}
}

// TestFramingLeavesAloneWhatIsNoLongerHTTP: the first byte behind a CONNECT may be
// read by net/http, which looks whether the client leaves.
func TestFramingLeavesAloneWhatIsNoLongerHTTP(t *testing.T) {
	const head, tunnelled = "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", " \n\x00\n\nwhatever"
	for _, background := range []bool{false, true} {
		f := new(framedReader)
		from := strings.NewReader(head + tunnelled)
		p := make([]byte, 4096)
		refused := func(err error) { t.Errorf("refused: %v", err) }
		n, err := f.read(p, from.Read, refused)
		if string(p[:n]) != head || err != nil {
			t.Fatalf("got %q, %v", p[:n], err)
		}
		var got []byte
		if background {
			if n, err = f.read(p[:1], from.Read, refused); n != 1 || err != nil {
				t.Fatalf("got %d bytes, %v", n, err)
			}
			got = append(got, p[0])
		}
		if got = append(got, f.left()...); string(got) != tunnelled {
			t.Errorf("got %q, want %q", got, tunnelled)
		}
	}
}

// FuzzFraming: it does not matter how requests are cut, and the framing and net/http
// agree where each of them ends.
func FuzzFraming(f *testing.F) {
	for _, c := range hostileRequests {
		if len(c.raw) < 1000 {
			f.Add([]byte(c.raw+smuggled), uint8(3))
			f.Add([]byte(smuggled+c.raw), uint8(50))
		}
	}
	for _, s := range heads {
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		whole, why := framedThrough(data, func(r io.Reader) io.Reader { return r })
		cut, whyCut := framedThrough(data, func(r io.Reader) io.Reader { return bufio.NewReaderSize(&shortReader{r, int(size) + 1}, 16) })
		if !bytes.Equal(whole, cut) || (why == nil) != (whyCut == nil) {
			t.Fatalf("%q becomes %q (%v), cut %q (%v)", data, whole, why, cut, whyCut)
		}
		starts, end := followed(data)
		counting := bytes.NewReader(data)
		buffered := bufio.NewReader(counting)
		for {
			r, err := http.ReadRequest(buffered)
			if err != nil || r.ProtoMajor != 1 {
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			at := len(data) - counting.Len() - buffered.Buffered()
			if at > end {
				return // refused here, or not all there
			}
			if !starts[at] {
				t.Fatalf("%q: net/http sees the end of a request at %d, and framing %v", data, at, starts)
			}
		}
	})
}

// followed gives where requests begin, and up to where data was followed.
func followed(data []byte) (starts map[int]bool, end int) {
	var f framing
	starts = map[int]bool{}
	for i := range data {
		if n, err := f.follow(data[i : i+1]); err != nil || n == 0 {
			return starts, i
		}
		if f.at == unclear {
			f = framing{}
		}
		starts[i+1] = f == framing{}
	}
	return starts, len(data)
}

// shortReader reads no more than size bytes at once.
type shortReader struct {
	io.Reader
	size int
}

func (s *shortReader) Read(p []byte) (int, error) { return s.Reader.Read(p[:min(len(p), s.size)]) }
