package ca

import (
	"crypto/tls"
	"testing"
	"time"
)

func TestLeafCacheDropsTheOneUsedLongestAgo(t *testing.T) {
	now := time.Now()
	later := now.Add(time.Hour)
	c := newLeafCache(2)
	a, b, d := new(tls.Certificate), new(tls.Certificate), new(tls.Certificate)
	c.add("a", a, later)
	c.add("b", b, later)
	c.get("a", now)
	c.add("d", d, later)
	if c.len() != 2 || c.get("a", now) != a || c.get("b", now) != nil || c.get("d", now) != d {
		t.Errorf("after a, b, a, d in a cache of two: %d entries, b: %v", c.len(), c.get("b", now))
	}
	c.add("a", b, later)
	if c.len() != 2 || c.get("a", now) != b {
		t.Error("a second leaf for a name does not replace the first")
	}
}

func TestLeafCacheForgetsWhatIsDue(t *testing.T) {
	now := time.Now()
	c := newLeafCache(2)
	c.add("a", new(tls.Certificate), now)
	if c.get("a", now) != nil || c.len() != 0 {
		t.Error("a leaf is handed out at the time of its renewal")
	}
}
