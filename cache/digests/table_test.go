package digests

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"larder/cache/integrity"
)

func key(s string) Key { return sha256.Sum256([]byte(s)) }

func sum(t testing.TB, a integrity.Algorithm, s string) integrity.Digest {
	t.Helper()
	h := a.New()
	h.Write([]byte(s))
	d, ok := integrity.NewDigest(a, h.Sum(nil))
	if !ok {
		t.Fatal("no digest")
	}
	return d
}

func openTable(t testing.TB, path string, buckets int) *Table {
	t.Helper()
	table, err := Open(path, buckets)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { table.Close() })
	return table
}

func (t *Table) mustAdd(tb testing.TB, entries ...Entry) []Change {
	tb.Helper()
	changes, err := t.Add(entries)
	if err != nil {
		tb.Fatal(err)
	}
	return changes
}

func (t *Table) mustLookup(tb testing.TB, k Key) []integrity.Digest {
	tb.Helper()
	found, err := t.Lookup(k)
	if err != nil {
		tb.Fatal(err)
	}
	return found
}

func TestDigestsSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "integrity", "digests")
	a := openTable(t, path, 10)
	want := []integrity.Digest{sum(t, integrity.SHA512, "x"), sum(t, integrity.SHA1, "x")}
	a.mustAdd(t, Entry{key("x"), want[0]}, Entry{key("x"), want[1]}, Entry{Key: key("none")})
	id := a.ID()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b := openTable(t, path, 99)
	if got := b.mustLookup(t, key("x")); !slices.Equal(got, want) {
		t.Errorf("Lookup = %v, want %v", got, want)
	}
	if got := b.mustLookup(t, key("none")); len(got) > 0 {
		t.Errorf("Lookup of no digest = %v", got)
	}
	if b.ID() != id {
		t.Error("the table has another ID")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestChangedDigestIsTold(t *testing.T) {
	table := openTable(t, filepath.Join(t.TempDir(), "d"), 10)
	x, y := sum(t, integrity.SHA256, "x"), sum(t, integrity.SHA256, "y")
	if changes := table.mustAdd(t, Entry{key("f"), x}); len(changes) > 0 {
		t.Errorf("first: %v", changes)
	}
	epoch := table.Epoch()
	if changes := table.mustAdd(t, Entry{key("f"), x}); len(changes) > 0 || table.Epoch() != epoch {
		t.Errorf("the same again: %v", changes)
	}
	changes := table.mustAdd(t, Entry{key("f"), y})
	if want := []Change{{key("f"), x, y}}; !slices.Equal(changes, want) || table.Epoch() == epoch {
		t.Errorf("another: %v, want %v", changes, want)
	}
	if got := table.mustLookup(t, key("f")); !slices.Equal(got, []integrity.Digest{y}) {
		t.Errorf("Lookup = %v", got)
	}
}

func TestOldestGoWhenABucketIsFull(t *testing.T) {
	table := openTable(t, filepath.Join(t.TempDir(), "d"), 1)
	start := time.Now()
	for i := range perPage + 1 {
		table.now = func() time.Time { return start.Add(time.Duration(i) * time.Second) }
		table.mustAdd(t, Entry{key(fmt.Sprint(i)), sum(t, integrity.SHA256, fmt.Sprint(i))})
	}
	for i := range perPage + 1 {
		if got := len(table.mustLookup(t, key(fmt.Sprint(i)))); got != min(i, 1) {
			t.Errorf("%d digests of file %d", got, i)
		}
	}
}

func TestUseKeepsADigest(t *testing.T) {
	table := openTable(t, filepath.Join(t.TempDir(), "d"), 1)
	start := time.Now()
	for i := range perPage {
		table.now = func() time.Time { return start.Add(time.Duration(i) * time.Second) }
		table.mustAdd(t, Entry{key(fmt.Sprint(i)), sum(t, integrity.SHA256, "x")})
	}
	table.now = func() time.Time { return start.Add(refreshAfter + time.Hour) }
	table.mustAdd(t, Entry{key("0"), sum(t, integrity.SHA256, "x")})
	table.mustAdd(t, Entry{key("new"), sum(t, integrity.SHA256, "x")})
	if len(table.mustLookup(t, key("0"))) != 1 || len(table.mustLookup(t, key("1"))) != 0 {
		t.Error("the one that was named lately went, and not the oldest")
	}
}

func TestTornSlotIsEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	table := openTable(t, path, 1)
	table.mustAdd(t, Entry{key("x"), sum(t, integrity.SHA256, "x")}, Entry{key("y"), sum(t, integrity.SHA256, "y")})
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := pageSize; at < pageSize+atCheck+4; at++ {
		torn := slices.Clone(data)
		torn[at] ^= 0x55
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		again := openTable(t, path, 1)
		if got := again.mustLookup(t, key("x")); len(got) > 0 {
			t.Fatalf("byte %d of a slot was changed, and it says %v", at-pageSize, got)
		}
		if got := again.mustLookup(t, key("y")); len(got) != 1 {
			t.Fatalf("the slot beside it says %v", got)
		}
	}
}

func TestWhatIsNoTableIsBegunAnew(t *testing.T) {
	for name, data := range map[string][]byte{
		"empty": nil, "other": make([]byte, 3*pageSize), "cut": append([]byte(magic), make([]byte, 100)...),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			table := openTable(t, path, 3)
			table.mustAdd(t, Entry{key("x"), sum(t, integrity.MD5, "x")})
			if got := table.mustLookup(t, key("x")); len(got) != 1 {
				t.Errorf("Lookup = %v", got)
			}
		})
	}
}

func TestTableIsSafeForConcurrentUse(t *testing.T) {
	table := openTable(t, filepath.Join(t.TempDir(), "d"), 4)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 20 {
				name := fmt.Sprint(i, j)
				table.mustAdd(t, Entry{key(name), sum(t, integrity.SHA256, name)})
				if got := table.mustLookup(t, key(name)); len(got) != 1 || got[0] != sum(t, integrity.SHA256, name) {
					t.Errorf("Lookup = %v", got)
				}
			}
		})
	}
	all.Wait()
}

func FuzzTable(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed")
	table, err := Open(path, 1)
	if err != nil {
		f.Fatal(err)
	}
	table.mustAdd(f, Entry{key("x"), sum(f, integrity.SHA256, "x")})
	table.Close()
	seed, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "d")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		table, err := Open(path, 2)
		if err != nil {
			t.Fatal(err)
		}
		defer table.Close()
		for _, d := range table.mustLookup(t, key("x")) {
			if d.IsZero() {
				t.Error("a digest that is none")
			}
		}
		table.mustAdd(t, Entry{key("x"), sum(t, integrity.MD5, "x")})
	})
}

func BenchmarkLookup(b *testing.B) {
	table := openTable(b, filepath.Join(b.TempDir(), "d"), DefaultBuckets)
	table.mustAdd(b, Entry{key("x"), sum(b, integrity.SHA256, "x")})
	there, absent := key("x"), key("y")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := table.Lookup(there); err != nil {
			b.Fatal(err)
		}
		if _, err := table.Lookup(absent); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	table := openTable(b, filepath.Join(b.TempDir(), "d"), DefaultBuckets)
	d := sum(b, integrity.SHA256, "x")
	n := 0
	for b.Loop() {
		n++
		table.mustAdd(b, Entry{key(fmt.Sprint(n)), d})
	}
}
