package mitm

import (
	"sync"
	"sync/atomic"
)

// gatherWriter is a connection below crypto/tls that sends several records at
// once: those of one large write, between gather and flush, and under HTTP/2 small
// ones together with what follows them at once. Buffers exist only meanwhile.
type gatherWriter struct {
	*clientConn
	pool *sync.Pool // of *[]byte with gatherSize

	// lazy: a small record waits for the next, but no longer than it takes the
	// scheduler to come round. net/http's HTTP/2 writes head, body and end of a
	// response each for itself, at once.
	lazy bool
	// yield returns when what was ready to run has run: runtime.Gosched.
	yield func()
	// trial listens in on the handshake; nil once it is over.
	trial *trial

	holding atomic.Bool // buffer is not nil, as far as crypto/tls's lock shows

	mu       sync.Mutex // guards the rest: an alert may come from who reads
	buffer   *[]byte    // nil: what is written is sent
	used     int
	gathered bool // between gather and flush
}

// gatherSize is how much is sent at once: gatherRecords full ones with what each
// adds (RFC 5246, Section 6.2.3, allows more than any suite does). Measured: three to
// five cost a tenth less than one at a time; eight no longer fit the processor's
// cache together with what they are made from, and cost a tenth more.
const (
	gatherRecords = 4
	gatherSize    = gatherRecords * (maxRecord + 256)
)

// smallRecord is the most that waits for company.
const smallRecord = 1 << 10

// gather holds back what is written from now on.
func (w *gatherWriter) gather() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hold()
	w.gathered = true
}

// hold sees to a buffer. The caller holds mu.
func (w *gatherWriter) hold() {
	if w.buffer == nil {
		w.buffer = w.pool.Get().(*[]byte)
		w.holding.Store(true)
	}
}

// flush sends what was held back and ends that.
func (w *gatherWriter) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gathered = false
	return w.release()
}

// release sends what is held back and gives the buffer up. The caller holds mu.
func (w *gatherWriter) release() error {
	if w.buffer == nil {
		return nil
	}
	err := w.send()
	w.pool.Put(w.buffer)
	w.buffer = nil
	w.holding.Store(false) // once everything held back is gone
	return err
}

// send empties the buffer. The caller holds mu.
func (w *gatherWriter) send() error {
	if w.used == 0 {
		return nil
	}
	_, err := w.clientConn.Write((*w.buffer)[:w.used])
	w.used = 0
	return err
}

// Read implements net.Conn for crypto/tls.
func (w *gatherWriter) Read(p []byte) (int, error) {
	n, err := w.clientConn.Read(p)
	if w.trial != nil {
		w.trial.heard.came(p[:n])
	}
	return n, err
}

// Write implements net.Conn for crypto/tls.
func (w *gatherWriter) Write(p []byte) (int, error) {
	if w.trial != nil {
		w.trial.heard.sent()
	}
	wait := w.lazy && len(p) <= smallRecord
	if !wait && !w.holding.Load() {
		return w.clientConn.Write(p)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buffer == nil && wait && w.server.flushes.enter() {
		w.hold()
		go w.soon() // ends when the client takes what is held, or the connection does
	}
	if w.buffer == nil {
		return w.clientConn.Write(p)
	}
	if w.used+len(p) > len(*w.buffer) {
		if err := w.send(); err != nil {
			return 0, err
		}
		if len(p) > len(*w.buffer) {
			return w.clientConn.Write(p)
		}
	}
	w.used += copy((*w.buffer)[w.used:], p)
	if !w.gathered && !wait {
		return len(p), w.send()
	}
	return len(p), nil
}

// soon sends what is held back once everything that is ready to run has run.
func (w *gatherWriter) soon() {
	defer w.server.flushes.leave()
	w.yield()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.gathered {
		_ = w.release() // the next write says so too
	}
}

// Close implements net.Conn. What is held back goes first, unless it is being
// sent: then whoever closes does not want to wait for it.
func (w *gatherWriter) Close() error {
	if w.mu.TryLock() {
		_ = w.release() // the client may be gone
		w.mu.Unlock()
	}
	return w.clientConn.Close()
}
