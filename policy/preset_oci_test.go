package policy

import (
	"fmt"
	"strings"
	"testing"
)

// ociShapes are the URLs that every registry has (distribution-spec, endpoints).
func ociShapes(registry, repository string) []shape {
	sum := strings.Repeat("0123456789abcdef", 4)
	v2 := registry + "/v2/"
	r := v2 + repository
	return []shape{
		{url: r + "/blobs/sha256:" + sum, rule: "blobs", action: Immutable},
		{url: r + "/blobs/sha256%3A" + sum, rule: "blobs", action: Immutable},
		{method: "HEAD", url: r + "/blobs/sha256:" + sum, rule: "blobs", action: Immutable},
		{url: r + "/manifests/sha256:" + sum, rule: "manifests", action: Immutable},
		{method: "HEAD", url: r + "/manifests/sha256:" + sum, rule: "manifests", action: Immutable},
		{url: r + "/manifests/latest", rule: "tags", action: Revalidate},
		{url: r + "/manifests/v1.2.3-rc.1_amd64", rule: "tags", action: Revalidate},
		{url: r + "/manifests/sha256-" + sum + ".sig", rule: "tags", action: Revalidate},
		{method: "HEAD", url: r + "/manifests/latest", rule: "tags", action: Revalidate},
		// Another algorithm is passed: the store could not hold it by its digest.
		{url: r + "/blobs/sha512:" + sum + sum, rule: "rest", action: Pass},
		{url: r + "/blobs/sha256:" + sum[1:], rule: "rest", action: Pass},
		{url: v2 + "../blobs/sha256:" + sum, rule: "rest", action: Pass},
		{url: v2, rule: "rest", action: Pass},
		{url: v2 + "_catalog", rule: "rest", action: Pass},
		{url: r + "/tags/list?n=100", rule: "rest", action: Pass},
		{url: r + "/referrers/sha256:" + sum, rule: "rest", action: Pass},
		{url: registry + "/token?service=x&scope=repository:a:pull", rule: "rest", action: Pass},
		{method: "POST", url: r + "/blobs/uploads/", rule: "rest", action: Pass},
		{method: "POST", url: r + "/blobs/uploads/?mount=sha256:" + sum + "&from=other", rule: "rest", action: Pass},
		{method: "PATCH", url: r + "/blobs/uploads/3f1c?_state=x", rule: "rest", action: Pass},
		{method: "PUT", url: r + "/blobs/uploads/3f1c?digest=sha256:" + sum, rule: "rest", action: Pass},
		{method: "PUT", url: r + "/manifests/latest", rule: "tags", action: Pass},
		{method: "DELETE", url: r + "/manifests/sha256:" + sum, rule: "manifests", action: Pass},
		{method: "DELETE", url: r + "/blobs/sha256:" + sum, rule: "blobs", action: Pass},
	}
}

func TestPresetsOCI(t *testing.T) {
	sum := strings.Repeat("0123456789abcdef", 4)
	data := "/docker/registry/v2/blobs/sha256/01/" + sum + "/data"
	const signed = "?X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-Signature=a"
	for preset, registries := range map[string]struct {
		hosts  []string
		access Authorized
		more   []shape
	}{
		"oci-dockerhub": {[]string{"registry-1.docker" + ".io", "index.docker" + ".io"}, Recheck, []shape{
			{url: "https://auth.docker" + ".io/token?service=registry", rule: "tokens", action: Tunnel},
			{url: "https://production.cloudflare.docker" + ".com/registry-v2" + data + "?verify=1-a", rule: "storage", action: Immutable},
			{url: "https://production.cloudfront.docker" + ".com/registry-v2" + data + signed, rule: "storage", action: Immutable},
			{url: "https://docker-images-prod.0a1b.r2.cloudflarestorage" + ".com/registry-v2" + data + signed, action: Tunnel},
			{url: "https://download.docker" + ".com/linux/debian/dists/bookworm/InRelease", rule: "", action: Tunnel},
		}},
		"oci-ghcr": {[]string{"ghcr" + ".io"}, Recheck, []shape{
			{url: "https://pkg-containers.githubusercontent" + ".com/ghcr1/blobs/sha256:" + sum + "?se=2026-01-01T00%3A00%3A00Z&sig=a", rule: "storage", action: Immutable},
			{url: "https://raw.githubusercontent" + ".com/a/b/main/x", action: Tunnel},
		}},
		"oci-quay": {[]string{"quay" + ".io"}, Recheck, []shape{
			{url: "https://cdn01.quay" + ".io/quayio-production-s3/sha256/01/" + sum + signed + "&cf_sign=a&cf_expiry=1", rule: "storage", action: Immutable},
			{url: "https://cdn.quay" + ".io/sha256/01/" + sum + "?Expires=1&Signature=a", rule: "storage", action: Immutable},
			{url: "https://quay" + ".io/api/v1/repository/a/b", rule: "rest", action: Pass},
		}},
		"oci-kubernetes": {[]string{"registry.k8s" + ".io"}, Public, nil},
		"oci-google":     {[]string{"gcr" + ".io", "eu.gcr" + ".io", "europe-west1-docker.pkg" + ".dev"}, Recheck, []shape{{url: "https://europe-west1-python.pkg" + ".dev/p/r/simple/", action: Tunnel}}},
		"oci-mcr": {[]string{"mcr.microsoft" + ".com"}, Public, []shape{
			{url: "https://westus2.data.mcr.microsoft" + ".com/01031d61e1-h36f/" + data + "?se=2026-01-01T00%3A00%3A00Z&sig=a", rule: "storage", action: Immutable},
		}},
		"oci-gitlab": {[]string{"registry.gitlab" + ".com"}, Recheck, []shape{
			{url: "https://cdn.registry.gitlab-static" + ".net/gitlab" + data + "?Expires=1&KeyName=k&Signature=a", rule: "storage", action: Immutable},
			{url: "https://gitlab" + ".com/jwt/auth?service=container_registry", action: Tunnel},
		}},
		"oci-ecr": {[]string{"123456789012.dkr.ecr.eu-west-1.amazonaws" + ".com", "123456789012.dkr.ecr.cn-north-1.amazonaws" + ".com.cn"}, Recheck, []shape{
			{url: "https://prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws" + ".com/a" + signed, action: Tunnel},
			{url: "https://api.ecr.eu-west-1.amazonaws" + ".com/", action: Tunnel},
		}},
		"oci-ecr-public": {[]string{"public.ecr" + ".aws"}, Public, nil},
	} {
		t.Run(preset, func(t *testing.T) {
			var shapes []shape
			for _, host := range registries.hosts {
				shapes = append(shapes, ociShapes("https://"+host, "library/nginx")...)
			}
			checkShapes(t, preset, append(shapes, registries.more...))
			for _, r := range mustParse(t, "presets: ["+preset+"]\n").Rules() {
				checkOCIRule(t, r, registries.access)
			}
		})
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
