package cache

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// contentCatalogue knows rule for POSTs with content of the kind test alone.
func (w *world) contentCatalogue(rule *Rule) *Catalogue {
	return w.cache.Catalogue(func(*url.URL) *Rule { return nil }).WithContent(func(method, kind string, target *url.URL) *Rule {
		if method != http.MethodPost || kind != "test" || target.Path != "/ask" {
			return nil
		}
		return rule
	})
}

func TestContentIsListedAndCarried(t *testing.T) {
	t.Parallel()
	var posts atomic.Int64
	w := newWorld(t, immutable, echo(&posts))
	w.content = asked(nil)
	w.post("one").want(t, 200, []byte("answer to one"), "larder; fwd=uri-miss; stored")
	w.post("two").want(t, 200, []byte("answer to two"), "larder; fwd=uri-miss; stored")
	eventually(t, "both are stored", func() bool { return w.stored() == 2 })
	c := w.contentCatalogue(immutable)
	found, err := c.Find(t.Context(), mustURL(t, w.origin.URL+"/ask"))
	if err != nil || len(found) != 2 {
		t.Fatalf("found %+v, %v", found, err)
	}
	for _, o := range found {
		if o.Rule != immutable.Name || !o.Fresh || *o.Select[":method"] != "POST" || !strings.HasPrefix(*o.Select[":content"], "test:") {
			t.Errorf("listed as %+v", o)
		}
	}

	var archive bytes.Buffer
	if _, err := c.Export(t.Context(), func(string) bool { return true }, &archive); err != nil {
		t.Fatal(err)
	}
	var refused []string
	refuse := func(what string, why error) { refused = append(refused, what+": "+why.Error()) }
	site := newWorld(t, immutable, func(http.ResponseWriter, *http.Request) { t.Error("the origin was asked") })
	site.content = asked(nil)
	site.origin.URL = w.origin.URL // whose URLs are in the archive
	done, err := site.contentCatalogue(immutable).Import(t.Context(), bytes.NewReader(archive.Bytes()), nil, refuse)
	if err != nil || done.Responses != 2 || len(refused) > 0 {
		t.Fatalf("imported %+v, %v, refused %q", done, err, refused)
	}
	site.post("one").want(t, 200, []byte("answer to one"), "larder; hit; detail=immutable")
	again, err := site.contentCatalogue(immutable).Import(t.Context(), bytes.NewReader(archive.Bytes()), nil, refuse)
	if err != nil || again.Present != 2 {
		t.Errorf("imported once more: %+v, %v", again, err)
	}

	// Where no rule is for such questions, and for a larder that has none at all.
	other := newWorld(t, immutable, func(http.ResponseWriter, *http.Request) {})
	for _, c := range []*Catalogue{other.contentCatalogue(nil), other.cache.Catalogue(func(*url.URL) *Rule { return immutable })} {
		refused = nil
		if done, err := c.Import(t.Context(), bytes.NewReader(archive.Bytes()), nil, refuse); err != nil || done.Responses != 0 || len(refused) != 2 {
			t.Errorf("imported %+v, %v, refused %q", done, err, refused)
		}
	}

	removed, err := c.Remove(t.Context(), func(u string) bool { return strings.HasSuffix(u, "/ask") }, nil)
	if err != nil || removed.Removed != 2 {
		t.Errorf("removed %+v, %v", removed, err)
	}
	w.post("one").want(t, 200, []byte("answer to one"), "larder; fwd=uri-miss; stored")
}

func TestSelectorsOfContentMustBeWhole(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	digest := strings.Repeat("0a", 32)
	for _, m := range []map[string]*string{
		{":method": text("POST")},
		{":content": text("k:" + digest)},
		{":method": nil, ":content": text("k:" + digest)},
		{":method": text(""), ":content": text("k:" + digest)},
		{":method": text("POST"), ":content": text("k:" + digest[2:])},
		{":method": text("POST"), ":content": text("k:" + digest[1:] + "x")},
		{":method": text("POST"), ":content": text(digest)},
	} {
		if _, _, ok := askedOf(m); ok {
			t.Errorf("%v is taken for whole", m)
		}
	}
	m := map[string]*string{":method": text("POST"), ":content": text("k:" + digest), "accept": nil}
	asked, fields, ok := askedOf(m)
	if !ok || asked.method != "POST" || asked.content.Kind != "k" || asked.content.Key[31] != 10 || len(fields) != 1 || len(m) != 3 {
		t.Errorf("%+v, %v, %v", asked, fields, ok)
	}
}
