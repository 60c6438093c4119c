package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

// fillWith stores body under k with options.
func fillWith(s *Store, k Key, body []byte, o CommitOptions) error {
	w, err := s.Create(context.Background())
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(body); err != nil {
		return err
	}
	_, err = w.CommitWith(k, nil, o)
	return err
}

// groupSize returns what the index says of a group, after comparing it with the sum of
// what its records say.
func groupSize(t *testing.T, s *Store, name string) (size int64) {
	t.Helper()
	x := s.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	n, ok := x.byTag[groupTag(name)]
	if !ok {
		return 0
	}
	for i := uint32(1); i < x.records.len(); i++ {
		if r := x.records.at(i); r.id != 0 && r.group == n {
			size += x.cost(r)
		}
	}
	if size != x.groups[n].size {
		t.Errorf("group %s: its records take %d bytes, and %d are counted", name, size, x.groups[n].size)
	}
	return size
}

func stored(t *testing.T, s *Store, k Key) bool {
	t.Helper()
	o, err := s.Peek(k)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	o.Release()
	return true
}

func TestAGroupStaysWithinItsBound(t *testing.T) {
	const size, limit, others = 100 << 10, 4 << 20, 30
	o := Options{Dir: t.TempDir(), MaxSize: 64 << 20}
	s := open(t, o)
	for n := range others {
		fill(t, s, key(n), nil, content(n, size))
	}
	group := CommitOptions{Group: "g", MaxGroup: limit}
	const first, count = 1000, 200
	hot := key(first)
	for n := range count {
		if err := fillWith(s, key(first+n), content(first+n, size), group); err != nil {
			t.Fatal(err)
		}
		if n%5 == 0 {
			check(t, s, hot, nil, content(first, size))
		}
		if got := groupSize(t, s, "g"); got > limit {
			t.Fatalf("after %d objects the group takes %d bytes of %d", n+1, got, limit)
		}
	}
	// It makes use of what it may have, the latest and the used are there, and nobody
	// else has lost anything.
	holds := func(s *Store) (kept []int) {
		t.Helper()
		if got := groupSize(t, s, "g"); got < limit*3/4 {
			t.Errorf("the group takes %d bytes of %d", got, limit)
		}
		for n := range others {
			if !stored(t, s, key(n)) {
				t.Errorf("object %d of no group is gone", n)
			}
		}
		for n := range count {
			if stored(t, s, key(first+n)) {
				kept = append(kept, n)
			}
		}
		for _, n := range []int{0, count - 1, count - 10} {
			if !stored(t, s, key(first+n)) {
				t.Errorf("object %d of the group is gone", n)
			}
		}
		return kept
	}
	before := fmt.Sprint(holds(s))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	if after := fmt.Sprint(holds(s)); after != before {
		t.Errorf("after a restart there are %s, before it %s", after, before)
	}
	// A lower bound holds from the next object on, whatever was stored before.
	group.MaxGroup = limit / 4
	if err := fillWith(s, key(first+count), content(1, size), group); err != nil {
		t.Fatal(err)
	}
	if got := groupSize(t, s, "g"); got > limit/4 {
		t.Errorf("the group takes %d bytes of %d", got, limit/4)
	}
	if stored(t, s, key(first+1)) || !stored(t, s, key(first+count)) {
		t.Error("the newest is not there, or the oldest is")
	}
	// And none at all: it grows.
	group.MaxGroup = 0
	for n := range 50 {
		if err := fillWith(s, key(5000+n), content(5000+n, size), group); err != nil {
			t.Fatal(err)
		}
	}
	if got := groupSize(t, s, "g"); got < 50*size {
		t.Errorf("the group takes %d bytes without a bound", got)
	}
}

func TestAGroupTakesNoObjectAboveItsBound(t *testing.T) {
	s := open(t, Options{MaxSize: 64 << 20})
	group := CommitOptions{Group: "g", MaxGroup: 1 << 20}
	if err := fillWith(s, key(1), content(1, 1000), group); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{s.MaxObject(group), s.MaxObject(group) + 1} {
		err := fillWith(s, key(2), content(2, int(size)), group)
		if fits := size <= s.MaxObject(group); fits != (err == nil) || !fits && !errors.Is(err, ErrNoSpace) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if !stored(t, s, key(2)) || stored(t, s, key(1)) {
		t.Error("the first that filled the bound is not alone there")
	}
}

// TestGroupsAreCountedWhateverHappens goes through all that changes a record.
func TestGroupsAreCountedWhateverHappens(t *testing.T) {
	o := Options{Dir: t.TempDir(), MaxSize: 16 << 20}
	s := open(t, o)
	a, b := CommitOptions{Group: "a", MaxGroup: 8 << 20}, CommitOptions{Group: "b", Pinned: true}
	sizes := func(wantA, wantB int64) {
		t.Helper()
		if gotA, gotB := groupSize(t, s, "a"), groupSize(t, s, "b"); gotA != wantA || gotB != wantB {
			t.Errorf("groups take %d and %d bytes, want %d and %d", gotA, gotB, wantA, wantB)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const large, small = 2 << 20, 100
	must(fillWith(s, key(1), content(1, large), a))
	must(fillWith(s, key(2), content(2, small), b))
	sizes(large+recordCost, small+recordCost)
	must(fillWith(s, key(1), content(2, small), a)) // replaced
	must(s.SetMeta(key(1), []byte("new")))          // stays in its group
	must(s.LinkWith(key(3), key(2), nil, a))        // counts for each
	must(s.PutWith(key(4), []byte("empty"), a))     // has no body
	must(fillWith(s, key(5), content(3, small), b)) // moves
	must(s.LinkWith(key(5), key(5), nil, a))        // to the other group
	must(fillWith(s, key(6), content(4, small), a)) // and out of any
	must(fillWith(s, key(6), content(4, small), CommitOptions{}))
	must(fillWith(s, key(7), content(5, small), a)) // goes
	must(s.Delete(key(7)))
	sizes(3*(small+recordCost)+recordCost, small+recordCost)
	must(s.Close())
	s = open(t, o)
	sizes(3*(small+recordCost)+recordCost, small+recordCost)
	check(t, s, key(1), []byte("new"), content(2, small))
	// Carried forward or dropped with their generations.
	for n := range 40 {
		check(t, s, key(3), nil, content(2, small))
		fill(t, s, key(100+n), nil, content(100+n, 1<<20))
	}
	groupSize(t, s, "a")
	if !stored(t, s, key(3)) || groupSize(t, s, "b") != small+recordCost {
		t.Error("what is used or pinned was not carried forward in its group")
	}
}

// TestEntriesOfTheFirstVersionAreRead: they had no groups.
func TestEntriesOfTheFirstVersionAreRead(t *testing.T) {
	for _, want := range indexEntries() {
		if want.group != 0 || want.head != 0 {
			continue
		}
		b := want.appendTo(nil)
		b[0] = 1
		b = binary.LittleEndian.AppendUint32(b[:len(b)-4], checksum(b[:len(b)-4]))
		got, err := decodeIndexEntry(b)
		if err != nil {
			t.Error(err)
		}
		if !bytes.Equal(got.appendTo(nil), want.appendTo(nil)) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}
