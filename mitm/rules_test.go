package mitm

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"larder/cache"
	"larder/policy"
)

func TestEveryCachingKeyOfARuleReachesTheCache(t *testing.T) {
	got := newCacheRule(&policy.Rule{
		Name: "r", Action: policy.Revalidate, TTL: time.Second, StaleIfError: 2 * time.Second,
		StaleWhileRevalidate: 3 * time.Second, NegativeTTL: 4 * time.Second, Vary: []string{"Accept"},
		DropQuery: []string{"q"}, MaxObject: 5, MaxStore: 6, Pin: true, FillRanges: true, FinishFill: policy.FinishNever,
		Verify: policy.VerifyRequired, Ledger: policy.LedgerWarn,
	})
	want := &cache.Rule{
		Name: "r", Mode: cache.Revalidate, TTL: time.Second, StaleIfError: 2 * time.Second,
		StaleWhileRevalidate: 3 * time.Second, NegativeTTL: 4 * time.Second, Vary: []string{"Accept"},
		DropQuery: []string{"q"}, MaxObject: 5, MaxStore: 6, Pin: true, FillRanges: true, FinishFill: cache.FinishNever,
		Verify: cache.VerifyRequired, Ledger: cache.LedgerWarn,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(cache.Rule{})); diff != "" {
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
	p.Key, p.Redirects, p.Validate = policy.KeyDigest, policy.FollowRedirects, policy.ValidateHead
	if r := newCacheRule(p); !r.KeyByDigest || !r.FollowRedirects || !r.ValidateHead || r.SignedBy != nil {
		t.Errorf("%+v", r)
	}
	p.Authorized, p.SignedBy = policy.Signed, []string{"a.test"}
	if r := newCacheRule(p); r.Access != cache.AccessSigned || r.SignedBy == nil || !strings.HasPrefix(r.Partition, "checked-") {
		t.Errorf("%+v", r)
	}
	p.Preset = "images"
	if r := newCacheRule(p); !strings.HasPrefix(r.Partition, "checked-images-") {
		t.Errorf("another preset shares its content: partition %s", r.Partition)
	}
	p.Authorized = policy.Public
	if r := newCacheRule(p); r.Access != cache.AccessPublic {
		t.Errorf("%+v", r)
	}
}

func TestDigestAndIndexOfARuleReachTheCache(t *testing.T) {
	const sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	p, err := policy.Parse("larder.yaml", []byte(`presets: none
rules:
  - name: r
    hosts: [a.test]
    action: revalidate
    digest: { sha256: '^/([0-9a-f]{2})/([0-9a-f]{62})$' }
    index: npm
    vouches_for: [b.test]
`))
	if err != nil {
		t.Fatal(err)
	}
	r := newCacheRule(p.Rules()[0])
	d, ok := r.URLDigest(&url.URL{Scheme: "https", Host: "a.test", Path: "/" + sum[:2] + "/" + sum[2:]})
	if !ok || d.String() != "sha256:"+sum {
		t.Errorf("URLDigest = %s, %v", d, ok)
	}
	if r.Index == nil || r.Index.Kind != "npm" || !r.Index.Vouches("b.test") || r.Index.Vouches("c.test") {
		t.Errorf("Index = %+v", r.Index)
	}
}
