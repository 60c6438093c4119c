package cache

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"larder/cache/store"
)

// The tests here are rows of the fault matrix in docs/reliability.md: an origin on a
// real TLS connection that misbehaves in one way, over HTTP/1.1 and over HTTP/2.

func storeOptions() store.Options { return store.Options{} }

// h1request is a request whose connection the test has in its own hands.
type h1request struct {
	t    testing.TB
	conn net.Conn
	http *http.Request
	n    int // of all requests, from 1
}

// newH1World starts a world whose upstream speaks HTTP/1.1 by hand. serve returns
// whether the connection stays open for another request.
func newH1World(t *testing.T, rule *Rule, o Options, serve func(*h1request)) *world {
	t.Helper()
	f := &failing{}
	o.Upstream = f
	var n atomic.Int64
	w := newWorldWith(t, rule, func(rw http.ResponseWriter, r *http.Request) {
		k := int(n.Add(1))
		if r.URL.Path == "/warm" {
			rw.Write([]byte("warm")) // leaves a connection in the pool
			return
		}
		conn, _, err := rw.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		serve(&h1request{t: t, conn: conn, http: r, n: k})
	}, o, storeOptions())
	tr := w.transport()
	tr.ForceAttemptHTTP2 = false
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetHTTP1(true)
	tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
	f.RoundTripper = tr
	return w
}

func (r *h1request) write(format string, args ...any) { fmt.Fprintf(r.conn, format, args...) }

// wanted sends the header of what is asked for and returns where that begins.
func (r *h1request) wanted(body []byte, etag string) (from int) {
	if v, ok := strings.CutPrefix(r.http.Header.Get("Range"), "bytes="); ok && r.http.Header.Get("If-Range") == etag {
		from, _ = strconv.Atoi(strings.TrimSuffix(v, "-"))
	}
	if from == 0 {
		r.write("HTTP/1.1 200 OK\r\nEtag: %s\r\nContent-Length: %d\r\n\r\n", etag, len(body))
		return 0
	}
	r.write("HTTP/1.1 206 Partial Content\r\nEtag: %s\r\nContent-Length: %d\r\nContent-Range: %s\r\n\r\n", etag, len(body)-from,
		span{int64(from), int64(len(body) - from)}.contentRange(int64(len(body))))
	return from
}

const faultTag = `"s"`

// idleFor is the idle timeout for a fault that is to be survived. Only what stalls
// needs it to pass, and then all else has to be quicker: those wait for it together.
func idleFor(t *testing.T, fault string) Options {
	if fault != "stalled" {
		return Options{}
	}
	t.Parallel()
	return Options{IdleTimeout: 5 * time.Second}
}

// unseen asks twice at once, and again, and wants nobody to notice anything.
func unseen(t *testing.T, w *world, body []byte) {
	t.Helper()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			got := w.get("/x")
			if got.err != nil || got.StatusCode != 200 || digest(got.body) != digest(body) {
				t.Errorf("status %d, %d bytes, %v", got.StatusCode, len(got.body), got.err)
			}
		})
	}
	wg.Wait()
	w.cache.wg.Wait()
	w.get("/x").want(t, 200, body, "larder; hit")
}

// cutOff asks and wants to notice that the response is not complete; nothing is stored.
func cutOff(t *testing.T, w *world) {
	t.Helper()
	got := w.get("/x")
	if got.err == nil && got.StatusCode < 500 {
		t.Errorf("status %d and %d bytes taken for the whole", got.StatusCode, len(got.body))
	}
	w.cache.wg.Wait()
	if n := w.stored(); n != 0 {
		t.Errorf("%d objects stored", n)
	}
}

func TestFaultMidBodyHTTP1(t *testing.T) {
	body := noise(600_000)
	const at = 250_000
	for _, test := range []struct {
		name  string
		fault func(r *h1request)
	}{
		{"cut with a FIN", func(r *h1request) {
			r.wanted(body, faultTag)
			r.conn.Write(body[:at])
		}},
		{"reset", func(r *h1request) {
			r.wanted(body, faultTag)
			r.conn.Write(body[:at])
			reset(r.conn)
		}},
		{"stalled", func(r *h1request) {
			r.wanted(body, faultTag)
			r.conn.Write(body[:at])
			r.conn.Read(make([]byte, 1)) // until larder gives up
		}},
		{"truncated chunked body", func(r *h1request) {
			r.write("HTTP/1.1 200 OK\r\nEtag: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", faultTag, at)
			r.conn.Write(body[:at])
			r.write("\r\n")
		}},
		{"truncated inside a chunk", func(r *h1request) {
			r.write("HTTP/1.1 200 OK\r\nEtag: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", faultTag, len(body))
			r.conn.Write(body[:at])
		}},
		{"garbage for a chunk size", func(r *h1request) {
			r.write("HTTP/1.1 200 OK\r\nEtag: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", faultTag, at)
			r.conn.Write(body[:at])
			r.write("\r\nzz\r\n")
		}},
		{"before the first body byte", func(r *h1request) {
			r.wanted(body, faultTag)
		}},
	} {
		t.Run(test.name+", resumed by range", func(t *testing.T) {
			var ranges atomic.Int64
			w := newH1World(t, immutable, idleFor(t, test.name), func(r *h1request) {
				if r.http.Header.Get("Range") != "" && r.http.Header.Get("If-Range") == faultTag {
					ranges.Add(1)
				}
				if r.n == 1 {
					test.fault(r)
					return
				}
				r.conn.Write(body[r.wanted(body, faultTag):])
			})
			unseen(t, w, body)
			if test.name != "before the first body byte" && ranges.Load() != 1 {
				t.Errorf("%d range requests", ranges.Load())
			}
		})
		t.Run(test.name+", refetched and compared", func(t *testing.T) {
			w := newH1World(t, immutable, idleFor(t, test.name), func(r *h1request) {
				if r.n == 1 {
					test.fault(r)
					return
				}
				r.http.Header.Del("Range")
				r.conn.Write(body[r.wanted(body, faultTag):])
			})
			unseen(t, w, body)
		})
		t.Run(test.name+", every time", func(t *testing.T) {
			w := newH1World(t, immutable, Options{IdleTimeout: 300 * time.Millisecond}, func(r *h1request) {
				if r.http.Header.Get("Range") != "" {
					return
				}
				test.fault(r)
			})
			cutOff(t, w)
		})
	}
}

func TestFaultMidBodyHTTP2(t *testing.T) {
	body := noise(600_000)
	const at = 250_000
	start := func(r *h2request) {
		r.wanted(body, faultTag)
		r.data(body[:at], false)
	}
	for _, test := range []struct {
		name  string
		fault func(r *h2request)
	}{
		{"RST_STREAM", func(r *h2request) {
			start(r)
			r.WriteRSTStream(r.stream, http2.ErrCodeInternal)
		}},
		{"RST_STREAM CANCEL", func(r *h2request) {
			start(r)
			r.WriteRSTStream(r.stream, http2.ErrCodeCancel)
		}},
		{"GOAWAY that gives the stream up", func(r *h2request) {
			start(r)
			r.WriteGoAway(0, http2.ErrCodeNo, nil)
			r.conn.Close()
		}},
		{"GOAWAY with an error", func(r *h2request) {
			start(r)
			r.WriteGoAway(r.stream, http2.ErrCodeEnhanceYourCalm, []byte("too_many"))
			r.conn.Close()
		}},
		{"connection cut", func(r *h2request) {
			start(r)
			r.conn.Close()
		}},
		{"connection reset", func(r *h2request) {
			start(r)
			reset(r.conn)
		}},
		{"stalled", start},
		{"END_STREAM before Content-Length", func(r *h2request) {
			r.wanted(body, faultTag)
			r.data(body[:at], true)
		}},
		{"before the first body byte", func(r *h2request) {
			r.wanted(body, faultTag)
			r.WriteRSTStream(r.stream, http2.ErrCodeInternal)
		}},
	} {
		t.Run(test.name+", resumed by range", func(t *testing.T) {
			w, _ := newH2World(t, immutable, idleFor(t, test.name), func(r *h2request) {
				if r.n == 1 {
					test.fault(r)
					return
				}
				r.data(body[r.wanted(body, faultTag):], true)
			})
			unseen(t, w, body)
		})
		t.Run(test.name+", refetched and compared", func(t *testing.T) {
			w, _ := newH2World(t, immutable, idleFor(t, test.name), func(r *h2request) {
				if r.n == 1 {
					test.fault(r)
					return
				}
				delete(r.fields, "range")
				r.data(body[r.wanted(body, faultTag):], true)
			})
			unseen(t, w, body)
		})
		t.Run(test.name+", every time", func(t *testing.T) {
			w, _ := newH2World(t, immutable, Options{IdleTimeout: 300 * time.Millisecond}, func(r *h2request) {
				if r.fields["range"] != "" {
					r.WriteRSTStream(r.stream, http2.ErrCodeInternal)
					return
				}
				test.fault(r)
			})
			cutOff(t, w)
		})
	}
}

func TestFaultGracefulGoAwayLosesNothing(t *testing.T) {
	body := noise(600_000)
	w, h := newH2World(t, immutable, Options{}, func(r *h2request) {
		r.data(body[:r.wanted(body, faultTag)], false)
		r.WriteGoAway(r.stream, http2.ErrCodeNo, nil)
		r.data(body, true)
	})
	unseen(t, w, body)
	if n := h.requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
	if got := w.get("/y"); got.StatusCode != 200 {
		t.Errorf("the next request: status %d", got.StatusCode)
	}
}

func TestFaultBodyLongerThanContentLength(t *testing.T) {
	body := noise(100_000)
	t.Run("HTTP/1.1 has no more than it said", func(t *testing.T) {
		w := newH1World(t, immutable, Options{}, func(r *h1request) {
			r.write("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body)-10)
			r.conn.Write(body)
			r.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
		})
		unseen(t, w, body[:len(body)-10])
		// What follows on the connection answers no other request.
		w.get("/y").want(t, 200, body[:len(body)-10], "larder; fwd=uri-miss; stored")
	})
	t.Run("HTTP/2 is malformed and not stored", func(t *testing.T) {
		w, h := newH2World(t, immutable, Options{}, func(r *h2request) {
			r.head(200, "content-length", strconv.Itoa(len(body)-10))
			r.data(body, true)
		})
		// By the time it shows, the client has all that it was promised.
		if got := w.get("/x"); got.err == nil && digest(got.body) != digest(body[:len(body)-10]) {
			t.Errorf("status %d, %d bytes", got.StatusCode, len(got.body))
		}
		w.cache.wg.Wait()
		if n := w.stored(); n != 0 {
			t.Errorf("%d objects stored", n)
		}
		if n := h.requests.Load(); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestFaultPooledConnectionDiesBeforeTheFirstByte(t *testing.T) {
	body := noise(10_000)
	for _, test := range []struct {
		name string
		end  func(net.Conn)
	}{
		{"closed", func(c net.Conn) { c.Close() }},
		{"reset", reset},
	} {
		t.Run("HTTP/1.1 "+test.name, func(t *testing.T) {
			var asked atomic.Int64
			w := newH1World(t, immutable, Options{}, func(r *h1request) {
				// The pooled connection, and the fresh one after it.
				if asked.Add(1) <= 2 {
					test.end(r.conn)
					return
				}
				r.conn.Write(body[r.wanted(body, faultTag):])
			})
			w.get("/warm")
			w.get("/x").want(t, 200, body, "larder; fwd=uri-miss; stored")
			if n := asked.Load(); n != 3 {
				t.Errorf("asked %d times", n)
			}
		})
		t.Run("HTTP/2 "+test.name, func(t *testing.T) {
			var asked atomic.Int64
			w, _ := newH2World(t, immutable, Options{}, func(r *h2request) {
				if r.fields[":path"] == "/x" && asked.Add(1) == 1 {
					test.end(r.conn)
					return
				}
				r.data(body[r.wanted(body, faultTag):], true)
			})
			w.get("/warm")
			w.get("/x").want(t, 200, body, "larder; fwd=uri-miss; stored")
		})
	}
	t.Run("HTTP/2 GOAWAY", func(t *testing.T) {
		var asked atomic.Int64
		w, _ := newH2World(t, immutable, Options{}, func(r *h2request) {
			if r.fields[":path"] == "/x" && asked.Add(1) == 1 {
				r.WriteGoAway(r.stream, http2.ErrCodeNo, nil)
				r.conn.Close()
				return
			}
			r.data(body[r.wanted(body, faultTag):], true)
		})
		w.get("/warm")
		w.get("/x").want(t, 200, body, "larder; fwd=uri-miss; stored")
	})
	t.Run("HTTP/2 REFUSED_STREAM", func(t *testing.T) {
		w, _ := newH2World(t, immutable, Options{}, func(r *h2request) {
			if r.n == 1 {
				r.WriteRSTStream(r.stream, http2.ErrCodeRefusedStream)
				return
			}
			r.data(body[r.wanted(body, faultTag):], true)
		})
		w.get("/x").want(t, 200, body, "larder; fwd=uri-miss; stored")
	})
	t.Run("every connection dies", func(t *testing.T) {
		var asked atomic.Int64
		w := newH1World(t, immutable, Options{}, func(r *h1request) { asked.Add(1) })
		if got := w.get("/x"); got.StatusCode != 502 {
			t.Errorf("status %d, want 502", got.StatusCode)
		}
		if n := asked.Load(); n != 2 {
			t.Errorf("asked %d times, want 2", n)
		}
	})
}

func TestFaultSlowFirstByte(t *testing.T) {
	body := noise(10_000)
	for _, before := range []string{"header", "body"} {
		t.Run(before, func(t *testing.T) {
			w := newH1World(t, immutable, Options{}, func(r *h1request) {
				wait := func() { // longer than clients wait for the header on its own
					select {
					case <-time.After(2 * firstByte):
					case <-r.t.Context().Done():
					}
				}
				if before == "header" {
					wait()
				}
				r.wanted(body, faultTag)
				if before == "body" {
					wait()
				}
				r.conn.Write(body)
			})
			unseen(t, w, body)
		})
	}
}

// TestFaultBeforeTheBodyGivesWayToTheNextAnswer: no client has any of the first, so the
// second need not agree with it.
func TestFaultBeforeTheBodyGivesWayToTheNextAnswer(t *testing.T) {
	body := noise(1000)
	whole := func(r *h1request, tag string, body []byte) {
		r.write("HTTP/1.1 200 OK\r\nEtag: %s\r\nContent-Length: %d\r\n\r\n", tag, len(body))
		r.conn.Write(body)
	}
	for _, test := range []struct {
		name   string
		second func(r *h1request)
		status int
		body   []byte
		stored bool
	}{
		{"the same", func(r *h1request) { whole(r, `"1"`, body) }, 200, body, true},
		{"under another tag", func(r *h1request) { whole(r, `"2"`, body) }, 200, body, true},
		{"of another length", func(r *h1request) { whole(r, `"2"`, body[1:]) }, 200, body[1:], true},
		{"in chunks", func(r *h1request) {
			r.write("HTTP/1.1 200 OK\r\nEtag: \"2\"\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
		}, 200, []byte("abc"), true},
		{"not to be stored", func(r *h1request) {
			r.write("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nEtag: \"2\"\r\nContent-Length: 3\r\n\r\nabc")
		}, 200, []byte("abc"), false},
		{"404", func(r *h1request) {
			r.write("HTTP/1.1 404 Not Found\r\nEtag: \"2\"\r\nCache-Control: no-store\r\nContent-Length: 3\r\n\r\nabc")
		}, 404, []byte("abc"), false},
	} {
		for _, mode := range []Mode{Immutable, Revalidate, HTTP} {
			t.Run(test.name+", "+mode.String(), func(t *testing.T) {
				w := newH1World(t, &Rule{Mode: mode}, Options{firstByte: time.Minute}, func(r *h1request) {
					if r.n == 1 {
						r.wanted(body, `"1"`)
						return
					}
					test.second(r)
				})
				got := w.get("/x")
				if got.err != nil || got.StatusCode != test.status || digest(got.body) != digest(test.body) {
					t.Errorf("status %d, %d bytes, %v", got.StatusCode, len(got.body), got.err)
				}
				if tag := got.Header.Get("Etag"); test.name != "the same" && tag != `"2"` {
					t.Errorf("Etag: %s", tag)
				}
				w.cache.wg.Wait()
				if stored := w.stored() > 0; stored != test.stored {
					t.Errorf("stored: %v", stored)
				}
			})
		}
	}
}

func TestFaultServersWithTagsOfTheirOwn(t *testing.T) {
	body := noise(600_000)
	for _, mode := range []Mode{Immutable, HTTP} {
		t.Run(mode.String(), func(t *testing.T) {
			w := newH1World(t, &Rule{Mode: mode}, Options{}, func(r *h1request) {
				tag := fmt.Sprintf(`"server-%d"`, r.n)
				from := r.wanted(body, tag)
				if r.n == 1 {
					r.conn.Write(body[:300_000])
					return
				}
				r.conn.Write(body[from:])
			})
			if mode == Immutable {
				unseen(t, w, body)
			} else {
				cutOff(t, w)
			}
		})
	}
}

func TestFaultRangeAnsweredWrongly(t *testing.T) {
	body := noise(600_000)
	for _, test := range []struct {
		name   string
		answer func(r *h1request)
	}{
		{"another range", func(r *h1request) {
			r.write("HTTP/1.1 206 Partial Content\r\nEtag: %s\r\nContent-Range: bytes 0-%d/%d\r\nContent-Length: %d\r\n\r\n", faultTag, len(body)-1, len(body), len(body))
			r.conn.Write(body)
		}},
		{"206 without Content-Range", func(r *h1request) {
			r.write("HTTP/1.1 206 Partial Content\r\nEtag: %s\r\nContent-Length: %d\r\n\r\n", faultTag, len(body))
			r.conn.Write(body)
		}},
		{"416", func(r *h1request) {
			r.write("HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n")
		}},
		{"another complete length", func(r *h1request) {
			r.write("HTTP/1.1 206 Partial Content\r\nEtag: %s\r\nContent-Range: bytes 300000-%d/%d\r\nContent-Length: 300001\r\n\r\n", faultTag, len(body), len(body)+1)
			r.conn.Write(append(noise(300_000), 'x'))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newH1World(t, immutable, Options{}, func(r *h1request) {
				switch {
				case r.n == 1:
					r.wanted(body, faultTag)
					r.conn.Write(body[:300_000])
				case r.http.Header.Get("Range") != "":
					test.answer(r)
				default:
					r.wanted(body, faultTag)
					r.conn.Write(body)
				}
			})
			unseen(t, w, body)
		})
	}
}

// TestFaultPartOfAnotherRepresentation: the origin ignores If-Range, and what it sends
// a part of is another representation now, which the validators do not exclude.
func TestFaultPartOfAnotherRepresentation(t *testing.T) {
	const at = 250_000
	old := noise(600_000)
	other := append(noise(5), old[5:at]...)
	other = append(other, noise(600_001)[at:len(old)]...)
	earlier, later := "Last-Modified: "+date(-48*time.Hour), "Last-Modified: "+date(-24*time.Hour)
	for _, test := range []struct{ name, first, part string }{
		{"RFC 9110, 8.8.2.2: another Last-Modified", earlier, later},
		{"a date, and a part without validator", earlier, "X-A: 1"},
		{"a date, and a part with a tag alone", earlier, `Etag: "a"`},
		{"8.8.3.2: a strong tag, and a weak one", `Etag: "a"`, `Etag: W/"a"`},
		{"a strong tag, and a part without validator", `Etag: "a"`, "X-A: 1"},
		{"a strong tag, and a part with a date alone", `Etag: "a"`, earlier},
		{"a strong tag and a date, and the same date alone", `Etag: "a"` + "\r\n" + earlier, earlier},
	} {
		t.Run(test.name, func(t *testing.T) {
			var parts atomic.Int64
			w := newH1World(t, immutable, Options{}, func(r *h1request) {
				switch {
				case r.n == 1:
					r.write("HTTP/1.1 200 OK\r\nDate: %s\r\n%s\r\nContent-Length: %d\r\n\r\n", date(0), test.first, len(old))
					r.conn.Write(old[:at])
				case r.http.Header.Get("Range") == "":
					r.write("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(other))
					r.conn.Write(other)
				default:
					parts.Add(1)
					if r.http.Header.Get("If-Range") == "" {
						t.Error("a range without If-Range")
					}
					r.write("HTTP/1.1 206 Partial Content\r\nDate: %s\r\n%s\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n",
						date(0), test.part, at, len(other)-1, len(other), len(other)-at)
					r.conn.Write(other[at:])
				}
			})
			cutOff(t, w)
			if n := parts.Load(); n != 1 {
				t.Errorf("asked for a part %d times, want once", n)
			}
		})
	}
}
