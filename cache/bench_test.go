package cache

import (
	"io"
	"net/http"
	"strconv"
	"testing"
)

// sink is a ResponseWriter that keeps nothing.
type sink struct{ h http.Header }

func (s *sink) Header() http.Header         { return s.h }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkHit is what the cache itself costs on a hit, without any socket.
func BenchmarkHit(b *testing.B) {
	for _, size := range []int{10 << 10, 64 << 20} {
		b.Run(strconv.Itoa(size>>10)+"KiB", func(b *testing.B) {
			body := noise(size)
			w := newWorld(b, immutable, func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Etag", `"s"`)
				rw.Header().Set("Cache-Control", "max-age=365000000, immutable, public")
				rw.Header().Set("Last-Modified", date(0))
				rw.Write(body)
			})
			w.get("/x").want(b, 200, body, "larder; fwd=uri-miss; stored")
			req, _ := http.NewRequest("GET", w.origin.URL+"/x", nil)
			req.Header.Set("Accept-Encoding", "identity")
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				out, err := w.cache.Serve(&sink{http.Header{}}, req, immutable)
				if err != nil || !out.Hit {
					b.Fatal(out, err)
				}
			}
		})
	}
}

// BenchmarkCold is a fill with one client over loopback TLS.
func BenchmarkCold(b *testing.B) {
	const size = 64 << 20
	body := noise(size)
	w := newWorld(b, immutable, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Length", strconv.Itoa(size))
		for off := 0; off < size; off += 256 << 10 {
			rw.Write(body[off : off+256<<10])
		}
	})
	b.SetBytes(size)
	n := 0
	for b.Loop() {
		n++
		resp, err := w.front.Client().Get(w.front.URL + "/" + strconv.Itoa(n))
		if err != nil {
			b.Fatal(err)
		}
		if m, err := io.Copy(io.Discard, resp.Body); err != nil || m != size {
			b.Fatal(m, err)
		}
		resp.Body.Close()
	}
}
