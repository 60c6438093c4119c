package mitm

import (
	"net/http"
	"net/url"
	"testing"

	"larder/curation"
	"larder/policy"
)

// TestIndexesAreSharedByWhoMayHaveTheSame: two requests at once are given one answer only
// where upstream could not have told them apart.
func TestIndexesAreSharedByWhoMayHaveTheSame(t *testing.T) {
	key := func(name, value string) indexKey {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fooIndex, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(name, value)
		ask := curation.Look(policy.PyPI, r.URL, r.Header)
		return indexKeyOf(r, &ask, nil, &exchange{})
	}
	anonymous := key("User-Agent", "pip")
	if key("User-Agent", "uv") != anonymous {
		t.Error("clients of different names do not share an index")
	}
	for _, name := range []string{"Authorization", "Cookie", "Private-Token", "X-Jfrog-Art-Api", "X-Api-Key", "X-Unknown"} {
		if key(name, "k") == anonymous {
			t.Errorf("who has no %s shares the index of who has", name)
		}
	}
}

// TestRedirectsLeadNotAroundTheCuration: what a client could not get for itself larder does
// not get for it.
func TestRedirectsLeadNotAroundTheCuration(t *testing.T) {
	w, _ := curatedWorld(t, "curation: [{name: bad, packages: [bad], action: deny}, {name: young, packages: [foo], younger_than: 3d, action: deny}]\n")
	hop := w.server.rules.Load().hops(policy.Client{})
	for target, may := range map[string]bool{
		"https://files.test/packages/aa/bad-1.0.tar.gz":   false,
		"https://files.test/packages/aa/b%61d-1.0.tar.gz": false,
		"https://files.test./packages/aa/bad-1.0.tar.gz":  false,
		"https://files.test/packages/x/../bad-1.0.tar.gz": false,
		"https://npm.test/bad/-/bad-1.0.0.tgz":            false,
		"https://files.test/packages/aa/foo-1.0.tar.gz":   false, // its age is not known here
		"https://files.test/packages/aa/good-1.0.tar.gz":  true,
		"https://elsewhere.test/packages/bad-1.0.tar.gz":  true,
	} {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		if err := hop(u); (err == nil) != may {
			t.Errorf("%s: %v", target, err)
		}
	}
}
