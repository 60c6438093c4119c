package ledger

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// small is a level of segments of 8 entries.
const small = 3

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newClock() *clock { return &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func openLedger(t testing.TB, o Options) *Ledger {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// reopen opens a folder and closes it when the test ends.
func reopen(t testing.TB, dir string) *Ledger {
	t.Helper()
	l := openLedger(t, Options{Dir: dir, level: small, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	t.Cleanup(func() { l.Close() })
	return l
}

func digestOf(s string) Digest { return sha256.Sum256([]byte(s)) }

func url(i int) string { return fmt.Sprintf("https://example.test/%d.tgz", i) }

// observe notes a body and wants it to be changed or not.
func (l *Ledger) observe(t testing.TB, url, body string, changed bool) Entry {
	t.Helper()
	e, got, err := l.Observe(Seen{URL: url, SHA256: digestOf(body), Size: int64(len(body)), Refuse: true})
	if err != nil || got != changed {
		t.Fatalf("Observe(%s, %q): changed %v, %v", url, body, got, err)
	}
	return e
}

func fill(t testing.TB, l *Ledger, n int) {
	t.Helper()
	for i := range n {
		l.observe(t, url(i), fmt.Sprint(i), false)
	}
}

// wantFilled wants what fill wrote, and that the tree is right.
func wantFilled(t testing.TB, l *Ledger, n int) {
	t.Helper()
	if got := l.Stats().Entries; got != int64(n) {
		t.Fatalf("%d entries, want %d", got, n)
	}
	for i := range n {
		e, err := l.Current(url(i), "")
		if err != nil || e.N != int64(i) || e.Kind != First || e.SHA256 != digestOf(fmt.Sprint(i)) {
			t.Fatalf("Current(%s) = %+v, %v", url(i), e, err)
		}
	}
	if _, err := l.Current(url(n), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Current of a URL that was not seen: %v", err)
	}
	if got, err := l.Verify(""); err != nil || got != int64(n) {
		t.Errorf("Verify = %d, %v", got, err)
	}
}

func TestFirstDigestsSurviveARestart(t *testing.T) {
	for _, n := range []int{0, 1, 7, 8, 9, 16, 23, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			dir := t.TempDir()
			l := openLedger(t, Options{Dir: dir, level: small})
			fill(t, l, n)
			wantFilled(t, l, n)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = reopen(t, dir)
			wantFilled(t, l, n)
			for i := range n {
				l.observe(t, url(i), fmt.Sprint(i), false)
			}
			wantFilled(t, l, n)
			l.observe(t, url(n), "new", false)
		})
	}
}

func TestOtherBytesAreAChangeUntilTheyAreAccepted(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(t, Options{Dir: dir, level: small})
	l.observe(t, url(0), "one", false)
	fill(t, l, 0)
	for i := 1; i < 20; i++ { // other segments
		l.observe(t, url(i), "x", false)
	}
	e := l.observe(t, url(0), "two", true)
	if e.Kind != Changed || e.Was != digestOf("one") || e.InForce() != digestOf("one") || !e.Refused {
		t.Errorf("the change is %+v", e)
	}
	size := l.Stats().Entries
	l.observe(t, url(0), "two", true)
	if l.Stats().Entries != size {
		t.Error("the same change was written down twice")
	}
	l.observe(t, url(0), "one", false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = reopen(t, dir)
	l.observe(t, url(0), "two", true)
	accepted, err := l.Accept(url(0), "", nil)
	if err != nil || accepted.Kind != Accepted || accepted.SHA256 != digestOf("two") || accepted.Was != digestOf("one") {
		t.Fatalf("Accept = %+v, %v", accepted, err)
	}
	l.observe(t, url(0), "two", false)
	l.observe(t, url(0), "one", true)
	three := digestOf("three")
	if _, err := l.Accept(url(0), "", &three); err != nil {
		t.Fatal(err)
	}
	l.observe(t, url(0), "three", false)
	history, err := l.History(url(0))
	var kinds []string
	for _, e := range history {
		kinds = append(kinds, e.Kind.String())
	}
	if want := []string{"first", "changed", "accepted", "changed", "accepted"}; err != nil || !slices.Equal(kinds, want) {
		t.Errorf("History = %v, %v", kinds, err)
	}
	events, err := l.Events(3)
	if err != nil || len(events) != 3 || events[0].Kind != Accepted || events[1].Kind != Changed || events[0].N < events[1].N {
		t.Errorf("Events = %+v, %v", events, err)
	}
	if _, err := l.Accept("https://example.test/none", "", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Accept of a URL that was not seen: %v", err)
	}
}

func TestVariantsAreKeptApart(t *testing.T) {
	l := reopen(t, t.TempDir())
	for i, variant := range []string{"", "accept: a", "accept: b"} {
		_, changed, err := l.Observe(Seen{URL: url(0), Variant: variant, SHA256: digestOf(fmt.Sprint(i))})
		if err != nil || changed {
			t.Errorf("%q: changed %v, %v", variant, changed, err)
		}
	}
	e, err := l.Current(url(0), "accept: a")
	if err != nil || e.SHA256 != digestOf("1") {
		t.Errorf("Current = %+v, %v", e, err)
	}
	if h, err := l.History(url(0)); err != nil || len(h) != 3 {
		t.Errorf("History has %d entries, %v", len(h), err)
	}
}

func TestBodyThatIsAnotherOneEachTimeIsBounded(t *testing.T) {
	l := reopen(t, t.TempDir())
	l.observe(t, url(0), "first", false)
	for i := range 10 * maxChanges {
		l.observe(t, url(0), fmt.Sprint(i), true)
	}
	if got := l.Stats().Entries; got != 1+maxChanges {
		t.Errorf("%d entries, want %d", got, 1+maxChanges)
	}
	l.observe(t, url(0), "first", false)
}

func TestFullLedgerTakesNoNewURLs(t *testing.T) {
	l := openLedger(t, Options{Dir: t.TempDir(), MaxSize: 1000, level: small})
	defer l.Close()
	n := 0
	var err error
	for ; err == nil && n < 100; n++ {
		_, _, err = l.Observe(Seen{URL: url(n), SHA256: digestOf("x")})
	}
	if !errors.Is(err, ErrFull) || n < 5 {
		t.Errorf("after %d entries: %v", n, err)
	}
	l.observe(t, url(0), "y", true) // what it has it holds to
	if _, _, err := l.Observe(Seen{URL: strings.Repeat("x", maxURL+1)}); !errors.Is(err, ErrTooLong) {
		t.Errorf("a long URL: %v", err)
	}
}

func TestSecondProcessIsRefusedAndMayRead(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(t, Options{Dir: dir, level: small})
	defer l.Close()
	fill(t, l, 21)
	if _, err := Open(Options{Dir: dir, level: small}); !errors.Is(err, ErrLocked) {
		t.Errorf("a second one: %v", err)
	}
	// Without an index, as after a crash.
	if err := os.Remove(indexPath(dir, 8)); err != nil {
		t.Fatal(err)
	}
	r := openLedger(t, Options{Dir: dir, ReadOnly: true, level: small})
	defer r.Close()
	wantFilled(t, r, 21)
	if _, _, err := r.Observe(Seen{URL: "https://example.test/new"}); err == nil {
		t.Error("a reader has written")
	}
}

func TestReaderNeedsALedger(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if _, err := Open(Options{Dir: dir, ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open = %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a reader has made a folder")
	}
}

// TestTornEndIsCutOff: whatever of its last bytes a crash has kept from the disk, what was
// whole is there and larder goes on.
func TestTornEndIsCutOff(t *testing.T) {
	for _, n := range []int{3, 8, 11} {
		dir := t.TempDir()
		l := openLedger(t, Options{Dir: dir, level: small})
		fill(t, l, n-1)
		before := l.active.size
		l.observe(t, url(n-1), fmt.Sprint(n-1), false)
		last := segmentPath(dir, int64(n-1)>>small<<small)
		// As a process that is killed leaves it: nothing is synced, nothing signed.
		data, err := os.ReadFile(last)
		if err != nil {
			t.Fatal(err)
		}
		kept := keep(t, dir)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		for size := before; size <= int64(len(data)); size++ {
			for _, garbage := range [][]byte{nil, {0, 0, 0, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte{0xff}, 20)} {
				at := restore(t, kept)
				name := filepath.Join(at, filepath.Base(last))
				if err := os.WriteFile(name, append(slices.Clone(data[:size]), garbage...), 0o600); err != nil {
					t.Fatal(err)
				}
				if n%8 == 0 && size < int64(len(data)) {
					// It was not full, so that there was no next one.
					_ = os.Remove(segmentPath(at, int64(n)))
					_ = os.Remove(indexPath(at, int64(n-8)))
				} else if n%8 == 0 {
					continue
				}
				l := openLedger(t, Options{Dir: at, level: small})
				want := n - 1
				if size == int64(len(data)) {
					want = n
				}
				wantFilled(t, l, want)
				l.observe(t, url(want), fmt.Sprint(want), false)
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				l = openLedger(t, Options{Dir: at, level: small})
				wantFilled(t, l, want+1)
				l.Close()
			}
		}
	}
}

// keep reads the files of a folder, and restore writes them to another one.
func keep(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	kept := make(map[string][]byte)
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		kept[f.Name()] = data
	}
	return kept
}

func restore(t testing.TB, kept map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range kept {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestEveryStepOfSealingMayBeTheLast: a crash leaves some of the files of a new segment.
func TestEveryStepOfSealingMayBeTheLast(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(t, Options{Dir: dir, level: small})
	fill(t, l, 16)
	kept := keep(t, dir)
	l.Close()
	for name, change := range map[string]func(map[string][]byte){
		"no index":        func(k map[string][]byte) { delete(k, filepath.Base(indexPath("", 8))) },
		"no next segment": func(k map[string][]byte) { delete(k, filepath.Base(segmentPath("", 16))) },
		"neither": func(k map[string][]byte) {
			delete(k, filepath.Base(indexPath("", 8)))
			delete(k, filepath.Base(segmentPath("", 16)))
		},
		"an empty next segment":   func(k map[string][]byte) { k[filepath.Base(segmentPath("", 16))] = nil },
		"half a header":           func(k map[string][]byte) { k[filepath.Base(segmentPath("", 16))] = []byte(segmentMagic) },
		"an index that is broken": func(k map[string][]byte) { k[filepath.Base(indexPath("", 8))][40] ^= 1 },
		"an index of another key": func(k map[string][]byte) { k[filepath.Base(indexPath("", 0))][len(indexMagic)] ^= 1 },
		"an index cut short": func(k map[string][]byte) {
			k[filepath.Base(indexPath("", 0))] = k[filepath.Base(indexPath("", 0))][:70]
		},
	} {
		t.Run(name, func(t *testing.T) {
			copied := make(map[string][]byte)
			for n, d := range kept {
				copied[n] = slices.Clone(d)
			}
			change(copied)
			l := reopen(t, restore(t, copied))
			wantFilled(t, l, 16)
			l.observe(t, url(16), "16", false)
			wantFilled(t, l, 17)
		})
	}
}

// TestDamageIsToldFromACrash: what was signed for is held to.
func TestDamageIsToldFromACrash(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(t, Options{Dir: dir, level: small})
	fill(t, l, 21)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	kept := keep(t, dir)
	last, full := filepath.Base(segmentPath("", 16)), filepath.Base(segmentPath("", 8))
	for name, change := range map[string]func(map[string][]byte){
		"a flipped bit in the last segment": func(k map[string][]byte) { k[last][segmentHead+40] ^= 4 },
		"the last segment cut":              func(k map[string][]byte) { k[last] = k[last][:len(k[last])-1] },
		"the last segment gone":             func(k map[string][]byte) { delete(k, last) },
		"another checkpoint": func(k map[string][]byte) {
			k[checkpointFile] = bytes.Replace(k[checkpointFile], []byte("21"), []byte("20"), 1)
		},
		"a full segment gone": func(k map[string][]byte) { delete(k, full) },
	} {
		t.Run(name, func(t *testing.T) {
			copied := make(map[string][]byte)
			for n, d := range kept {
				copied[n] = slices.Clone(d)
			}
			change(copied)
			at := restore(t, copied)
			if l, err := Open(Options{Dir: at, level: small}); !errors.Is(err, ErrDamaged) {
				t.Errorf("Open = %v", err)
				if err == nil {
					l.Close()
				}
			}
		})
	}
	t.Run("a flipped bit in a full segment", func(t *testing.T) {
		copied := make(map[string][]byte)
		for n, d := range kept {
			copied[n] = slices.Clone(d)
		}
		copied[full][segmentHead+40] ^= 4
		l := reopen(t, restore(t, copied)) // which does not read it
		if _, err := l.Verify(""); !errors.Is(err, ErrDamaged) {
			t.Errorf("Verify = %v", err)
		}
	})
}

// TestForgedHistoryIsFound: who has an older checkpoint, or export, notices that entries
// were changed, though checksums and signature are right.
func TestForgedHistoryIsFound(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(t, Options{Dir: dir, level: small})
	fill(t, l, 13)
	earlier, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(filepath.Join(dir, verifierFile))
	if err != nil {
		t.Fatal(err)
	}
	forged := t.TempDir()
	for name, data := range map[string][]byte{keyFile: key, verifierFile: public} {
		if err := os.WriteFile(filepath.Join(forged, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := openLedger(t, Options{Dir: forged, level: small})
	defer f.Close()
	f.observe(t, url(0), "another", false)
	for i := 1; i < 20; i++ {
		f.observe(t, url(i), fmt.Sprint(i), false)
	}
	if _, err := f.Verify(earlier); !errors.Is(err, ErrInconsistent) {
		t.Errorf("Verify of a forged history = %v", err)
	}
	honest := reopen(t, dir)
	for i := 13; i < 20; i++ {
		honest.observe(t, url(i), fmt.Sprint(i), false)
	}
	if n, err := honest.Verify(earlier); n != 20 || err != nil {
		t.Errorf("Verify = %d, %v", n, err)
	}
	var a, b bytes.Buffer
	if err := honest.Export(&a, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Export(&b, 0); err != nil {
		t.Fatal(err)
	}
	if head, err := ReadExport(&a, honest.Verifier(), earlier, nil); err != nil || head.Size != 20 {
		t.Errorf("ReadExport = %+v, %v", head, err)
	}
	if _, err := ReadExport(&b, honest.Verifier(), earlier, nil); !errors.Is(err, ErrInconsistent) {
		t.Errorf("ReadExport of a forged history = %v", err)
	}
}

func TestConsistencyIsProvedWithoutTheEntries(t *testing.T) {
	l := reopen(t, t.TempDir())
	var heads []Checkpoint
	for i := range 40 {
		l.observe(t, url(i), "x", false)
		signed, err := l.Checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		head, err := OpenCheckpoint(signed, l.Verifier())
		if err != nil || head.Size != int64(i+1) {
			t.Fatalf("OpenCheckpoint = %+v, %v", head, err)
		}
		heads = append(heads, head)
	}
	for i := range heads {
		for j := i; j < len(heads); j++ {
			proof, err := l.Consistency(heads[i].Size, heads[j].Size)
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.CheckTree(proof, heads[j].Size, heads[j].Root, heads[i].Size, heads[i].Root); err != nil {
				t.Errorf("from %d to %d: %v", heads[i].Size, heads[j].Size, err)
			}
		}
	}
	if _, err := l.Consistency(0, 5); err == nil {
		t.Error("a proof from nothing")
	}
	if _, err := l.Consistency(5, 99); err == nil {
		t.Error("a proof to what there is not")
	}
}

func TestExportThatWasChangedIsFound(t *testing.T) {
	l := reopen(t, t.TempDir())
	fill(t, l, 10)
	var b bytes.Buffer
	if err := l.Export(&b, 0); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(b.String(), "\n")
	for name, text := range map[string]string{
		"an entry left out":   strings.Join(slices.Concat(lines[:3], lines[4:]), ""),
		"the last left out":   strings.Join(slices.Concat(lines[:9], lines[10:]), ""),
		"cut short":           strings.Join(lines[:9], ""),
		"other bytes":         strings.Replace(b.String(), url(3), url(4), 1),
		"another spelling":    strings.Replace(b.String(), `"n":3,`, `"n": 3,`, 1),
		"more behind it":      b.String() + lines[0],
		"from the third on":   strings.Join(lines[2:], ""),
		"another's signature": strings.Replace(b.String(), "larder-ledger-", "larder-ledgen-", 2),
	} {
		if _, err := ReadExport(strings.NewReader(text), l.Verifier(), "", nil); err == nil {
			t.Errorf("%s: the export is taken for whole", name)
		}
	}
	n := 0
	head, err := ReadExport(&b, l.Verifier(), "", func(e Entry) error {
		if e.URL != url(n) {
			t.Errorf("entry %d is of %s", n, e.URL)
		}
		n++
		return nil
	})
	if err != nil || head.Size != 10 || n != 10 {
		t.Errorf("ReadExport = %+v, %v", head, err)
	}
}

func TestSinceFindsTheFirstEntryOfATime(t *testing.T) {
	c := newClock()
	l := openLedger(t, Options{Dir: t.TempDir(), level: small, now: c.now})
	defer l.Close()
	start := c.t
	for i := range 30 {
		c.t = start.Add(time.Duration(i) * time.Hour)
		l.observe(t, url(i), "x", false)
	}
	for hours, want := range map[float64]int64{-1: 0, 0: 0, 0.5: 1, 7: 7, 8: 8, 8.5: 9, 29: 29, 30: 30, 99: 30} {
		got, err := l.Since(start.Add(time.Duration(hours * float64(time.Hour))))
		if err != nil || got != want {
			t.Errorf("Since %v hours = %d, %v, want %d", hours, got, err, want)
		}
	}
	n := int64(12)
	for e, err := range l.Entries(12) {
		if err != nil || e.N != n {
			t.Fatalf("entry %+v, %v, want number %d", e, err, n)
		}
		n++
	}
	if n != 30 {
		t.Errorf("ended at %d", n)
	}
}

func TestKeyIsPrivate(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(t, Options{Dir: dir})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, keyFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("with a key that others can read: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("PRIVATE+KEY+secret+stuff"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); err == nil || strings.Contains(err.Error(), "stuff") {
		t.Errorf("with a key that is none: %v", err)
	}
}

func TestConcealedTextIsTheSameForTheSame(t *testing.T) {
	l, other := reopen(t, t.TempDir()), reopen(t, t.TempDir())
	one, again := l.Conceal("token=1"), l.Conceal("token=1")
	if one != again || one == l.Conceal("token=2") || one == other.Conceal("token=1") {
		t.Error("concealed texts do not tell texts and ledgers apart")
	}
}

func TestLedgerIsSafeForConcurrentUse(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(t, Options{Dir: dir, level: small})
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 30 {
				name := fmt.Sprintf("https://example.test/%d/%d", w%2, i)
				if _, changed, err := l.Observe(Seen{URL: name, SHA256: digestOf(name)}); changed || err != nil {
					t.Errorf("Observe: %v, %v", changed, err)
				}
				if _, err := l.Current(name, ""); err != nil {
					t.Error(err)
				}
				if i%10 == 0 {
					if err := l.Sync(); err != nil {
						t.Error(err)
					}
					if _, err := l.Events(5); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	if n, err := l.Verify(""); n != 60 || err != nil {
		t.Errorf("Verify = %d, %v", n, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := reopen(t, dir).Stats().Entries; got != 60 {
		t.Errorf("%d entries after all", got)
	}
}

func TestClosedLedgerTakesNothing(t *testing.T) {
	l := openLedger(t, Options{Dir: t.TempDir()})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("Close once more: %v", err)
	}
	if _, _, err := l.Observe(Seen{URL: url(0)}); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Observe = %v", err)
	}
}

func TestRootIsThatOfTheLibrary(t *testing.T) {
	var f frontier
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, n := range indexes {
			out[i] = stored[n]
		}
		return out, nil
	})
	for n := range int64(70) {
		want, err := tlog.TreeHash(n, reader)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.root(); got != want {
			t.Fatalf("root of %d leaves is %v, want %v", n, got, want)
		}
		data := fmt.Append(nil, n)
		hashes, err := tlog.StoredHashes(n, data, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		f.push(0, tlog.RecordHash(data))
	}
}

func FuzzRecord(f *testing.F) {
	e := Entry{N: 5, Time: time.UnixMilli(1).UTC(), Kind: Changed, URL: "https://a.test/", Variant: "v", Size: 3, Refused: true, changes: 2, prev: position{1, 24}}
	f.Add(appendRecord(nil, &e))
	e = Entry{Kind: First}
	f.Add(appendRecord(nil, &e))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, length, err := parseRecord(data)
		if err != nil {
			return
		}
		if length > len(data) {
			t.Fatalf("a record of %d bytes in %d", length, len(data))
		}
		again, _, err := parseRecord(appendRecord(nil, &e))
		if err != nil && len(appendRecord(nil, &e)) <= maxRecord {
			t.Fatal(err)
		}
		if err == nil && again != e {
			t.Errorf("%+v became %+v", e, again)
		}
		_ = e.Line()
	})
}

func FuzzExport(f *testing.F) {
	l := openLedger(f, Options{Dir: f.TempDir(), level: small})
	defer l.Close()
	for i := range 3 {
		if _, _, err := l.Observe(Seen{URL: url(i)}); err != nil {
			f.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := l.Export(&b, 0); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"n":0,"time":"2026-01-02T03:04:05.000Z","kind":"first","url":"u","sha256":"` + strings.Repeat("a", 64) + `","size":1}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := ReadExport(bytes.NewReader(data), l.Verifier(), "", nil)
		if err == nil && !bytes.Equal(bytes.TrimRight(data, "\r\n"), bytes.TrimRight(b.Bytes(), "\n")) {
			t.Errorf("%q is taken for an export", data)
		}
		for line := range bytes.Lines(data) {
			line = bytes.TrimSuffix(line, []byte("\n"))
			if e, err := ParseLine(line); err == nil && !bytes.Equal(e.Line(), line) {
				t.Errorf("%q is taken for %q", line, e.Line())
			}
		}
	})
}

func FuzzLedgerFolder(f *testing.F) {
	dir := f.TempDir()
	l := openLedger(f, Options{Dir: dir, level: small})
	for i := range 11 {
		if _, _, err := l.Observe(Seen{URL: url(i)}); err != nil {
			f.Fatal(err)
		}
	}
	l.Close()
	kept := keep(f, dir)
	f.Add(kept["000000000000.log"], kept["000000000000.idx"], kept["000000000008.log"])
	f.Fuzz(func(t *testing.T, full, index, last []byte) {
		copied := map[string][]byte{
			keyFile: kept[keyFile], verifierFile: kept[verifierFile],
			"000000000000.log": full, "000000000000.idx": index, "000000000008.log": last,
		}
		l, err := Open(Options{Dir: restore(t, copied), level: small, ReadOnly: true})
		if err != nil {
			return
		}
		defer l.Close()
		for i := range 12 {
			_, _ = l.Current(url(i), "")
		}
		_, _ = l.Verify("")
		_, _ = l.Events(3)
	})
}

func BenchmarkObserve(b *testing.B) {
	l := openLedger(b, Options{Dir: b.TempDir()})
	defer l.Close()
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		if _, _, err := l.Observe(Seen{URL: url(n), SHA256: digestOf("x")}); err != nil {
			b.Fatal(err)
		}
	}
}
