package mitm

import (
	"regexp"
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

func TestRulesSayWhoMayHaveWhatIsStored(t *testing.T) {
	p := &policy.Rule{
		Action: policy.Immutable, Authorized: policy.Recheck, RecheckTTL: time.Minute, RecheckAt: "/$1",
		RecheckScope: regexp.MustCompile("^/(.)"), Request: policy.HeaderChanges{Set: []policy.HeaderField{{Name: "x-api-key", Value: "s3cret"}}},
	}
	r := newCacheRule(p)
	if r.Access != cache.AccessRecheck || r.RecheckTTL != time.Minute || r.RecheckScope != p.RecheckScope || r.RecheckAt != "/$1" {
		t.Errorf("%+v", r)
	}
	if len(r.OwnFields) != 1 || r.OwnFields[0] != "X-Api-Key" {
		t.Errorf("own fields %q", r.OwnFields)
	}
	p.Authorized = policy.Public
	if r := newCacheRule(p); r.Access != cache.AccessPublic {
		t.Errorf("%+v", r)
	}
}
