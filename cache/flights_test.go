package cache

import (
	"encoding/binary"
	"net/http"
	"strconv"
	"testing"
	"time"
)

func TestKeysThatAreAskedForAloneAreBounded(t *testing.T) {
	now := time.Now()
	c := &Cache{now: func() time.Time { return now }}
	c.flights.init()
	fillOf := func(i int) *fill {
		f := &fill{}
		binary.BigEndian.PutUint64(f.key[:], uint64(i))
		return f
	}
	for i := range 2 * maxAlone {
		c.withdraw(fillOf(i), true)
	}
	if n := len(c.flights.alone); n != maxAlone {
		t.Errorf("%d keys are remembered, want %d", n, maxAlone)
	}
	// What has passed makes room.
	now = now.Add(aloneFor)
	late := fillOf(2 * maxAlone)
	c.withdraw(late, true)
	if _, ok := c.flights.alone[late.key]; !ok || len(c.flights.alone) != 1 {
		t.Errorf("%d keys are remembered, the latest among them: %v", len(c.flights.alone), ok)
	}
}

func TestVariantSetsAreBounded(t *testing.T) {
	w := newWorld(t, web, http.NotFound)
	primary := primaryKey(mustURL(t, "https://a.test/"), &Rule{})
	for i := range 3 * maxVariantSets {
		if _, err := w.cache.storageKey(primary, immutable, []string{"x-" + strconv.Itoa(i)}, http.Header{}); err != nil {
			t.Fatal(err)
		}
	}
	s := w.cache.load(primary)
	if s == nil {
		t.Fatal("nothing is stored")
	}
	defer s.release()
	if n := len(s.rec.sets); n != maxVariantSets {
		t.Errorf("%d sets of fields are remembered, want %d", n, maxVariantSets)
	}
	if latest := "x-" + strconv.Itoa(3*maxVariantSets-1); s.rec.sets[0][0] != latest {
		t.Errorf("the first set is %q, want the latest, %s", s.rec.sets[0], latest)
	}
}
