package cache

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"larder/cache/store"
)

// pinWorld has a store that a few dozen of its large objects fill.
func pinWorld(t *testing.T, rule *Rule) *world {
	large := noise(1 << 20)
	return newWorldWith(t, rule, func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/large/"):
			rw.Write(append([]byte(r.URL.Path), large...))
			return
		case strings.HasPrefix(r.URL.Path, "/varied/"):
			rw.Header().Set("Vary", "X-Kind")
		}
		rw.Header().Set("Etag", `"one"`)
		if r.Header.Get("If-None-Match") != "" {
			rw.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(rw, "body of "+r.URL.Path)
	}, Options{}, store.Options{MaxSize: 16 << 20})
}

// churn stores three times what the store holds, none of it pinned.
func (w *world) churn() {
	w.t.Helper()
	w.rule = &Rule{Mode: Immutable}
	for n := range 48 {
		w.get(fmt.Sprintf("/large/%d", n))
		if _, err := w.last(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// holds asks without upstream for what should be there, and for what should not.
func (w *world) holds(there, gone []string) {
	w.t.Helper()
	w.rule = &Rule{Mode: Immutable, Offline: true}
	for _, path := range there {
		if a := w.get(path, "X-Kind", "a"); a.StatusCode != 200 || string(a.body) != "body of "+path {
			w.t.Errorf("%s: %d %q", path, a.StatusCode, a.body)
		}
		w.last()
	}
	for _, path := range gone {
		if a := w.get(path, "X-Kind", "a"); a.StatusCode != http.StatusGatewayTimeout {
			w.t.Errorf("%s, which is not pinned: %d", path, a.StatusCode)
		}
		w.last()
	}
}

func (w *world) fetch(rule *Rule, paths ...string) {
	w.t.Helper()
	w.rule = rule
	for _, path := range paths {
		if a := w.get(path, "X-Kind", "a"); a.StatusCode != 200 {
			w.t.Errorf("%s: %d", path, a.StatusCode)
		}
		w.last()
	}
}

func TestPinnedRulesKeepWhatTheyStore(t *testing.T) {
	w := pinWorld(t, nil)
	plain, pinned := &Rule{Mode: Revalidate}, &Rule{Mode: Revalidate, Pin: true}
	w.fetch(plain, "/plain", "/validated", "/varied/validated")
	w.fetch(pinned, "/pinned", "/varied/pinned", "/validated", "/varied/validated")
	w.churn()
	w.holds([]string{"/pinned", "/varied/pinned", "/validated"}, []string{"/plain"})
}

func TestImportPinsUnderPinnedRules(t *testing.T) {
	from := pinWorld(t, nil)
	from.fetch(&Rule{Mode: Immutable}, "/one", "/two", "/varied/three")
	var archive bytes.Buffer
	all := func(string) bool { return true }
	if _, err := from.catalogue().Export(t.Context(), all, &archive); err != nil {
		t.Fatal(err)
	}
	for _, pin := range []bool{true, false} {
		to := pinWorld(t, &Rule{Mode: Immutable, Pin: pin})
		to.origin.URL = from.origin.URL // whose URLs are in the archive
		done, err := to.catalogue().Import(t.Context(), bytes.NewReader(archive.Bytes()), nil, nil)
		if err != nil || done.Refused > 0 || done.Responses < 3 {
			t.Fatalf("%+v, %v", done, err)
		}
		there, gone := []string{"/one", "/two", "/varied/three"}, []string(nil)
		if !pin {
			there, gone = gone, there
		}
		to.churn()
		to.holds(there, gone)
	}
}
