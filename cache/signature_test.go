package cache

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestSignatureOf(t *testing.T) {
	end := time.Date(2026, 2, 5, 18, 35, 14, 0, time.UTC)
	unix := fmt.Sprint(end.Unix())
	policy := func(s string) string {
		return strings.NewReplacer("+", "-", "=", "_", "/", "~").Replace(base64.StdEncoding.EncodeToString([]byte(s)))
	}
	jwt := "h." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp":`+unix+`}`)) + ".s"
	for name, test := range map[string]struct {
		query   string
		signed  bool
		expires time.Time
	}{
		"nothing":                    {"", false, time.Time{}},
		"a plain query":              {"page=2&expires=" + unix, false, time.Time{}},
		"a trace of the registry's":  {"rid=0af7651916cd43dd8448eb211c80319c", false, time.Time{}},
		"SigV4":                      {"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2F20260205%2Fauto&X-Amz-Date=20260205T181514Z&X-Amz-Expires=1200&X-Amz-SignedHeaders=host&X-Amz-Signature=f", true, end},
		"SigV4 in lower case":        {"x-amz-date=20260205T181514Z&x-amz-expires=1200&x-amz-signature=f", true, end},
		"SigV4 without a life":       {"X-Amz-Date=20260205T181514Z&X-Amz-Signature=f", true, time.Time{}},
		"SigV4 without a date":       {"X-Amz-Expires=1200&X-Amz-Signature=f", true, time.Time{}},
		"SigV4 with another date":    {"X-Amz-Date=2026-02-05&X-Amz-Expires=1200&X-Amz-Signature=f", true, time.Time{}},
		"a negative life":            {"X-Amz-Date=20260205T181514Z&X-Amz-Expires=-1&X-Amz-Signature=f", true, time.Time{}},
		"SigV2":                      {"AWSAccessKeyId=a&Signature=b&Expires=" + unix, true, end},
		"CloudFront":                 {"Expires=" + unix + "&Signature=a~&Key-Pair-Id=K", true, end},
		"CloudFront with a policy":   {"Policy=" + policy(`{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":`+unix+`}}}]}`) + "&Signature=a&Key-Pair-Id=K", true, end},
		"a policy without an end":    {"Policy=" + policy(`{"Statement":[{}]}`) + "&Signature=a", true, time.Time{}},
		"a policy that is none":      {"Policy=%25&Signature=a", true, time.Time{}},
		"GCS":                        {"X-Goog-Date=20260205T181514Z&X-Goog-Expires=1200&X-Goog-Signature=f", true, end},
		"GCS V2":                     {"GoogleAccessId=a&Expires=" + unix + "&Signature=b", true, end},
		"Azure":                      {"se=2026-02-05T18%3A35%3A14Z&sig=a%3D&sp=r&spr=https&sr=b&sv=2019-12-12", true, end},
		"Azure by the day":           {"se=2026-02-05&sig=a&sv=1", true, time.Date(2026, 2, 5, 0, 0, 0, 0, time.UTC)},
		"Azure with a delegated key": {"se=2026-02-05T18%3A35%3A14Z&ske=2026-02-05T18%3A00%3A00Z&sig=a", true, time.Date(2026, 2, 5, 18, 0, 0, 0, time.UTC)},
		"Azure with another form":    {"se=tomorrow&sig=a", true, time.Time{}},
		"release assets":             {"se=2026-02-06T18%3A35%3A14Z&sig=a&jwt=" + jwt, true, end},
		"a token without an end":     {"se=2026-02-06T18%3A35%3A14Z&sig=a&jwt=x", true, time.Time{}},
		"the registry of Microsoft":  {"P1=" + unix + "&P2=1&P3=1&P4=a%3D", true, end},
		"Cloudflare":                 {"verify=" + unix + "-zf3G3JFG%3D", true, end},
		"Quay's Cloudflare":          {"cf_sign=a&cf_expiry=" + unix + "&region=us-east-1", true, end},
		"Akamai":                     {"hdnts=st%3D1~exp%3D" + unix + "~acl%3D%2F*~hmac%3Da", true, end},
		"Akamai without an end":      {"__token__=st%3D1~hmac%3Da", true, time.Time{}},
		"two, the first to end":      {"Expires=" + unix + "&Signature=a&se=2030-01-01&sig=b", true, end},
		"one of unknown form":        {"access_token=a", true, time.Time{}},
		"the end of time":            {"Expires=99999999999&Signature=a", true, time.Time{}},
		"before it":                  {"Expires=-5&Signature=a", true, time.Time{}},
	} {
		got := signatureOf(&url.URL{Scheme: "https", Host: "a.test", Path: "/", RawQuery: test.query})
		if got.signed != test.signed || !got.expires.Equal(test.expires) {
			t.Errorf("%s: %+v, want %v until %v", name, got, test.signed, test.expires)
		}
	}
}

// FuzzSignatureOf: an end that is told is one that the query names, within bounds, and
// an unsigned URL has none.
func FuzzSignatureOf(f *testing.F) {
	f.Add("X-Amz-Date=20260205T181514Z&X-Amz-Expires=1200&X-Amz-Signature=f")
	f.Add("Expires=1770316514&Signature=a&Key-Pair-Id=K")
	f.Add("Policy=eyJTdGF0ZW1lbnQiOlt7IkNvbmRpdGlvbiI6eyJEYXRlTGVzc1RoYW4iOnsiQVdTOkVwb2NoVGltZSI6MTc3MDMxNjUxNH19fV19&Signature=a")
	f.Add("se=2026-02-05T18%3A35%3A14Z&sig=a&jwt=h.eyJleHAiOjE3NzAzMTY1MTR9.s")
	f.Add("verify=1608172124-zf3G3JFG&hdnts=st=1~exp=1770316514~hmac=a")
	f.Add("%zz&&=&se=&sig")
	f.Fuzz(func(t *testing.T, query string) {
		s := signatureOf(&url.URL{Scheme: "https", Host: "a.test", Path: "/", RawQuery: query})
		if !s.signed && !s.expires.IsZero() {
			t.Errorf("%q is not signed and ends at %v", query, s.expires)
		}
		if !s.expires.IsZero() && (s.expires.Year() < 0 || s.expires.Year() > 12000) {
			t.Errorf("%q ends at %v", query, s.expires)
		}
		if again := signatureOf(&url.URL{RawQuery: query + "&sig=x&se=1970-01-02"}); again.signed && !again.expires.IsZero() && !s.expires.IsZero() && again.expires.After(s.expires) {
			t.Errorf("%q lasts longer with another end", query)
		}
	})
}

// TestSignedRedirectsAreNotKeptBeyondTheirSignature, whatever the origin says, and in
// spite of max-stale, stale-if-error and offline.
func TestSignedRedirectsAreNotKeptBeyondTheirSignature(t *testing.T) {
	var w *world
	rule := &Rule{Mode: HTTP, StaleIfError: time.Hour, StaleWhileRevalidate: time.Hour}
	w = newWorld(t, rule, func(rw http.ResponseWriter, r *http.Request) {
		end := w.clock.now().Add(time.Minute).Unix()
		location := map[string]string{
			"/signed":  fmt.Sprintf("https://cdn.test/x?Expires=%d&Signature=a", end),
			"/unknown": "https://cdn.test/x?sig=a", "/plain": "https://cdn.test/x",
		}[r.URL.Path]
		rw.Header().Set("Location", location)
		rw.Header().Set("Cache-Control", "max-age=31536000")
		rw.WriteHeader(http.StatusFound)
		_, _ = io.WriteString(rw, "moved")
	})
	moved := []byte("moved")
	w.get("/plain").want(t, 302, moved, "larder; fwd=uri-miss; stored")
	w.get("/unknown").want(t, 302, moved, "larder; fwd=uri-miss; detail=signed")
	w.get("/unknown").want(t, 302, moved, "larder; fwd=uri-miss; detail=signed")
	w.get("/signed").want(t, 302, moved, "larder; fwd=uri-miss; stored")
	w.clock.advance(59 * time.Second)
	w.get("/signed").want(t, 302, moved, "larder; hit; ttl=1")
	w.clock.advance(time.Second)
	w.get("/plain").want(t, 302, moved, "larder; hit; ttl=31535940")
	w.get("/signed", "Cache-Control", "max-stale").want(t, 302, moved, "larder; fwd=stale; stored")
	w.clock.advance(time.Minute)
	w.cache.SetOffline(true)
	if a := w.get("/signed"); a.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("offline: %d", a.StatusCode)
	}
	w.get("/plain").want(t, 302, moved, "larder; hit; ttl=31535880")
	w.cache.SetOffline(false)
	w.origin.Close()
	if a := w.get("/signed"); a.StatusCode != http.StatusBadGateway {
		t.Errorf("with upstream down: %d", a.StatusCode)
	}
}
