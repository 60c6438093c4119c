package certs

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseFingerprintTakesWhatPeopleCopy(t *testing.T) {
	want := sha256.Sum256([]byte("x"))
	plain := strings.ToLower(strings.ReplaceAll(written(want), ":", ""))
	for _, s := range []string{written(want), plain, strings.ToUpper(plain), "SHA256:" + plain, "sha256:" + written(want), "sha256 Fingerprint=" + written(want) + "\n"} {
		if got, err := ParseFingerprint(s); err != nil || got != want {
			t.Errorf("%q: %x, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "SHA256:", plain[1:], plain + "0", "z" + plain[1:], "md5:" + plain} {
		if _, err := ParseFingerprint(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestVerifyTakesTheRootsThatAreVouchedForAlone(t *testing.T) {
	old, next, other := newRoot(t, "old"), newRoot(t, "new"), newRoot(t, "other")
	both := encode(next, old)
	for name, test := range map[string]struct {
		given  []string
		want   []byte
		others []string
	}{
		"one of a rotation": {[]string{printOf(old)}, encode(old), []string{printOf(next)}},
		"both":              {[]string{printOf(old), "SHA256:" + printOf(next)}, both, nil},
		"one more":          {[]string{printOf(other), printOf(next)}, encode(next), []string{printOf(old)}},
	} {
		got, others, err := Verify(both, test.given)
		if diff := cmp.Diff(string(test.want), string(got)) + cmp.Diff(test.others, others); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	_, _, err := Verify(encode(other), []string{printOf(old)})
	if e, ok := errors.AsType[*FingerprintError](err); !ok || !strings.Contains(e.Error(), printOf(old)) || !strings.Contains(e.Error(), printOf(other)) {
		t.Errorf("another root: %v", err)
	}
	for name, data := range map[string][]byte{"nothing": nil, "no PEM": []byte("<html>"), "a key": []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")} {
		if _, _, err := Verify(data, []string{printOf(old)}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, _, err := Verify(both, []string{"SHA256:12"}); err == nil {
		t.Error("half a fingerprint is taken")
	}
	if _, _, err := Verify(both, nil); err == nil {
		t.Error("no fingerprint is taken")
	}
}

func FuzzVerify(f *testing.F) {
	root, other := newRoot(f, "root"), newRoot(f, "other")
	f.Add(encode(root))
	f.Add(encode(other, root))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _, err := Verify(data, []string{printOf(root)})
		if err == nil && string(got) != string(encode(root)) {
			t.Errorf("%q became %q", data, got)
		}
	})
}
