package store

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"testing"
)

// logger writes to the test's output.
func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// open opens a store in dir that is closed at the end of the test.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.MaxSize == 0 {
		o.MaxSize = 256 << 20
	}
	if o.Logger == nil {
		o.Logger = logger(t)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

// key returns a key for a number.
func key(n int) Key { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n))) }

// content returns n bytes that are the same for the same seed and differ for others. It
// is assembly that makes them, which the race detector does not slow down.
func content(seed, n int) []byte {
	k := key(seed)
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err)
	}
	b := make([]byte, n)
	cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(b, b)
	return b
}

// fill stores body under k.
func fill(t testing.TB, s *Store, k Key, meta, body []byte) {
	t.Helper()
	if err := tryFill(s, k, meta, body); err != nil {
		t.Fatal(err)
	}
}

func tryFill(s *Store, k Key, meta, body []byte) error {
	w, err := s.Create(context.Background())
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(body); err != nil {
		return err
	}
	_, err = w.Commit(k, meta)
	return err
}

// check fails the test unless k holds exactly meta and body.
func check(t testing.TB, s *Store, k Key, meta, body []byte) {
	t.Helper()
	o, err := s.Get(k)
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	defer o.Release()
	if !bytes.Equal(o.Meta(), meta) {
		t.Errorf("meta is %q, want %q", o.Meta(), meta)
	}
	if o.Size() != int64(len(body)) || o.SHA256() != sha256.Sum256(body) {
		t.Errorf("size %d, SHA-256 %x, want %d, %x", o.Size(), o.SHA256(), len(body), sha256.Sum256(body))
	}
	var got bytes.Buffer
	if n, err := o.WriteRange(&got, 0, o.Size()); err != nil || n != o.Size() {
		t.Fatalf("write range: %d, %v", n, err)
	}
	if !bytes.Equal(got.Bytes(), body) {
		t.Errorf("the body differs")
	}
	b, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size()))
	if err != nil || !bytes.Equal(b, body) {
		t.Errorf("read at: the body differs, %v", err)
	}
}

// absent fails the test if there is an object under k.
func absent(t testing.TB, s *Store, k Key) {
	t.Helper()
	o, err := s.Get(k)
	if err == nil {
		o.Release()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get: %v, want fs.ErrNotExist", err)
	}
}

func TestObjectsOfAllSizesReadBack(t *testing.T) {
	dir := t.TempDir()
	const chunk = 256 << 10 // of a store this small
	sizes := []int{0, 1, 100, 4096, inlineMax - 1, inlineMax, inlineMax + 1, chunk - 1, chunk, chunk + 1, 3*chunk + 17, 5 << 20}
	s := open(t, Options{Dir: dir})
	if s.geo.chunk != chunk {
		t.Fatalf("chunks of %d", s.geo.chunk)
	}
	for i, n := range sizes {
		fill(t, s, key(i), []byte("meta"), content(i, n))
		check(t, s, key(i), []byte("meta"), content(i, n))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir})
	for i, n := range sizes {
		check(t, s, key(i), []byte("meta"), content(i, n))
	}
	absent(t, s, key(len(sizes)))
}
