package policy

import (
	"fmt"
	"strings"
	"testing"
)

// TestPresetsOfRegistries checks what those of OCI registries have in common, and that
// only those of which all is public spare the question.
func TestPresetsOfRegistries(t *testing.T) {
	public := map[string]bool{"oci-kubernetes": true, "oci-mcr": true, "oci-ecr-public": true}
	seen := 0
	for _, p := range mustPresets(t) {
		if !strings.HasPrefix(p.Name, "oci-") {
			continue
		}
		seen++
		access := Recheck
		if public[p.Name] {
			access = Public
		}
		for _, r := range p.Rules() {
			checkOCIRule(t, r, access)
		}
	}
	if seen < 9 {
		t.Errorf("%d presets of registries", seen)
	}
}

// checkOCIRule checks what the rules of every registry have in common.
func checkOCIRule(t *testing.T, r *Rule, access Authorized) {
	t.Helper()
	of := fmt.Sprintf("%v %v key %v redirects %v", r.Authorized, r.Action, r.Key, r.Redirects)
	want := map[string]string{
		"blobs":     fmt.Sprintf("%v immutable key digest redirects follow", access),
		"manifests": fmt.Sprintf("%v immutable key url redirects follow", access),
		"tags":      fmt.Sprintf("%v revalidate key url redirects follow", access),
		"storage":   "signed immutable key digest redirects pass",
		"tokens":    " tunnel key url redirects pass",
		"rest":      " pass key url redirects pass",
	}
	if access == Public {
		want["storage"] = "public immutable key digest redirects pass"
	}
	_, name, _ := strings.Cut(r.Name, "/")
	if of != want[name] {
		t.Errorf("%s: %s, want %s", r.Name, of, want[name])
	}
	switch {
	case name == "tags" && r.Validate != ValidateHead:
		t.Errorf("%s is validated by %v", r.Name, r.Validate)
	case r.Action == Immutable && (r.Verify != VerifyRequired || len(r.Digest) != 1):
		t.Errorf("%s is verified by %v, %v", r.Name, r.Verify, r.Digest)
	case r.Authorized == Recheck && r.RecheckScope == nil, r.Authorized == Signed && len(r.SignedBy) == 0:
		t.Errorf("%s: scope %v, signed by %v", r.Name, r.RecheckScope, r.SignedBy)
	}
}

// TestNoPresetStoresFromHostsThatAnybodyMayHave beside private content: whoever answers
// there would be believed to have any digest.
func TestNoPresetStoresFromHostsThatAnybodyMayHave(t *testing.T) {
	presets, err := Presets()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range presets {
		for _, r := range p.Rules() {
			if r.Key != KeyDigest || r.Authorized == Public {
				continue
			}
			for _, host := range []string{
				"bucket.s3.amazonaws.com", "prod-evil-starport-layer-bucket.s3.eu-west-1.amazonaws.com", "d111111abcdef8.cloudfront.net",
				"bucket.storage.googleapis.com", "account.blob.core.windows.net", "docker-images-prod.0123.r2.cloudflarestorage.com", "evil.github.io",
			} {
				for _, pattern := range r.hosts {
					if pattern.Match(host) {
						t.Errorf("rule %s stores what %s sends", r.Name, host)
					}
				}
			}
		}
	}
}
