package cache

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInvalidated(t *testing.T) {
	const target = "https://example.org/a/b?q"
	for _, test := range []struct {
		clause, method string
		status         int
		header         []string
		want           []string
	}{
		{"4.4: the target URI", "PUT", 200, nil, []string{target}},
		{"4.4: a redirection is no error", "POST", 303, nil, []string{target}},
		{"4.4: an error is", "PUT", 404, nil, nil},
		{"4.4: and so is the server's", "DELETE", 500, nil, nil},
		{"4.4: an unknown method is unsafe", "M-SEARCH", 200, nil, []string{target}},
		{"4.4: a safe one is not", "SEARCH", 200, []string{"Location: /x"}, nil},
		{"4.4: Location", "POST", 201, []string{"Location: https://example.org/new#part"}, []string{target, "https://example.org/new"}},
		{"4.4: Content-Location, relative", "POST", 200, []string{"Content-Location: c?d"}, []string{target, "https://example.org/a/c?d"}},
		{"4.4: both", "POST", 201, []string{"Location: /x", "Content-Location: /y"}, []string{target, "https://example.org/x", "https://example.org/y"}},
		{"4.4: the target once more", "PUT", 200, []string{"Content-Location: b?q"}, []string{target}},
		{"4.4: the same origin in other words", "POST", 201, []string{"Location: HTTPS://EXAMPLE.org:443/x"}, []string{target, "https://EXAMPLE.org:443/x"}},
		{"4.4: another host", "POST", 201, []string{"Location: https://example.net/a"}, []string{target}},
		{"4.4: another scheme", "POST", 201, []string{"Location: http://example.org/a"}, []string{target}},
		{"4.4: another port", "POST", 201, []string{"Location: https://example.org:8443/a"}, []string{target}},
		{"no URI at all", "POST", 201, []string{"Location: %zz"}, []string{target}},
	} {
		var got []string
		for _, u := range Invalidated(test.method, mustURL(t, target), test.status, fields(test.header...)) {
			got = append(got, u.String())
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s:\n%s", test.clause, diff)
		}
	}
}
