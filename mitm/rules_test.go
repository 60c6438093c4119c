package mitm

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"larder/cache"
	"larder/policy"
)

func TestEveryCachingKeyOfARuleReachesTheCache(t *testing.T) {
	got := newCacheRule(&policy.Rule{
		Name: "r", Action: policy.Revalidate, TTL: time.Second, StaleIfError: 2 * time.Second,
		StaleWhileRevalidate: 3 * time.Second, NegativeTTL: 4 * time.Second, Vary: []string{"Accept"},
		DropQuery: []string{"q"}, MaxObject: 5, MaxStore: 6, Pin: true, FillRanges: true, FinishFill: policy.FinishNever,
	})
	want := &cache.Rule{
		Name: "r", Mode: cache.Revalidate, TTL: time.Second, StaleIfError: 2 * time.Second,
		StaleWhileRevalidate: 3 * time.Second, NegativeTTL: 4 * time.Second, Vary: []string{"Accept"},
		DropQuery: []string{"q"}, MaxObject: 5, MaxStore: 6, Pin: true, FillRanges: true, FinishFill: cache.FinishNever,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rule differs (-want +got):\n%s", diff)
	}
}
