package warm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/html"
)

// simpleFile is a file of a project as a simple index lists it
// (https://packaging.python.org/en/latest/specifications/simple-repository-api/).
type simpleFile struct {
	url string
	// hashes are the digests of the file, metadata those of its .metadata sibling;
	// hasMetadata may be true without any.
	hashes      []Digest
	metadata    Digest
	hasMetadata bool
}

// pipFields are what pip sends with requests to an index: the representation that
// is stored is then the one that pip will ask for.
func pipFields() map[string]string {
	return map[string]string{
		"Accept": "application/vnd.pypi.simple.v1+json, " +
			"application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01",
		"Accept-Encoding": "gzip, deflate",
	}
}

// parseSimple reads a project page in either representation.
func parseSimple(res Response) ([]simpleFile, error) {
	kind, _, _ := mime.ParseMediaType(res.ContentType)
	base, err := url.Parse(res.URL)
	if err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	switch {
	case kind == "application/vnd.pypi.simple.v1+json" || kind == "application/json":
		return simpleJSON(base, res.Body)
	case strings.HasSuffix(kind, "html"), kind == "":
		return simpleHTML(base, string(res.Body))
	}
	return nil, fmt.Errorf("the index answers with %q, which is no simple index", kind)
}

func simpleJSON(base *url.URL, body []byte) ([]simpleFile, error) {
	var page struct {
		Files []struct {
			URL      string            `json:"url"`
			Hashes   map[string]string `json:"hashes"`
			Metadata any               `json:"core-metadata"`
			// Before PEP 714 the key had these names.
			Old any `json:"dist-info-metadata"`
			Alt any `json:"data-dist-info-metadata"`
		} `json:"files"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	var files []simpleFile
	for _, f := range page.Files {
		u, err := base.Parse(f.URL)
		if err != nil {
			continue // pip skips what it cannot read, too
		}
		file := simpleFile{url: u.String()}
		for name, value := range f.Hashes {
			if d, err := ParseDigest(name + ":" + value); err == nil {
				file.hashes = append(file.hashes, d)
			}
		}
		for _, m := range []any{f.Metadata, f.Old, f.Alt} {
			switch m := m.(type) {
			case bool:
				file.hasMetadata = file.hasMetadata || m
			case map[string]any:
				file.hasMetadata = true
				if v, ok := m["sha256"].(string); ok {
					file.metadata, _ = ParseDigest("sha256:" + v)
				}
			}
		}
		files = append(files, file)
	}
	return files, nil
}

func simpleHTML(base *url.URL, page string) ([]simpleFile, error) {
	var files []simpleFile
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			if err := z.Err(); !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("read the index: %w", err)
			}
			return files, nil
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			switch t.Data {
			case "base":
				if u, err := base.Parse(attribute(t, "href")); err == nil && attribute(t, "href") != "" {
					base = u
				}
			case "a":
				if f, ok := simpleAnchor(base, t); ok {
					files = append(files, f)
				}
			}
		}
	}
}

func attribute(t html.Token, name string) string {
	for _, a := range t.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// simpleAnchor reads one link: the digest is in the URL's fragment (PEP 503), that of
// the metadata in an attribute (PEP 658, PEP 714).
func simpleAnchor(base *url.URL, t html.Token) (simpleFile, bool) {
	href := attribute(t, "href")
	u, err := base.Parse(strings.TrimSpace(href))
	if href == "" || err != nil {
		return simpleFile{}, false
	}
	var f simpleFile
	name, value, _ := strings.Cut(u.Fragment, "=")
	if d, err := ParseDigest(name + ":" + value); err == nil {
		f.hashes = []Digest{d}
	}
	u.Fragment, u.RawFragment = "", ""
	f.url = u.String()
	for _, key := range []string{"data-core-metadata", "data-dist-info-metadata"} {
		if v := attribute(t, key); v != "" {
			f.hasMetadata = true
			algorithm, value, _ := strings.Cut(v, "=")
			if d, err := ParseDigest(algorithm + ":" + value); err == nil {
				f.metadata = d
			}
			break
		}
	}
	return f, true
}

// items are what pip fetches of a file: its metadata first, where the index has it.
func (f simpleFile) items(index Item, digest Digest) ([]Item, error) {
	it, err := target(f.url)
	if err != nil {
		return nil, err
	}
	if it.Header == nil && index.Header.Get("Authorization") != "" && sameOrigin(it.URL, index.URL) {
		it.Header = http.Header{"Authorization": index.Header["Authorization"]}
	}
	it.Digest = digest
	if !f.hasMetadata {
		return []Item{it}, nil
	}
	u, err := url.Parse(it.URL)
	if err != nil {
		return nil, err
	}
	meta := it
	// The suffix belongs to the path, before a query.
	u.RawPath = u.EscapedPath() + ".metadata"
	u.Path += ".metadata"
	meta.URL, meta.Digest = u.String(), f.metadata
	return []Item{meta, it}, nil
}
