package cache

import (
	"encoding/hex"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"larder/cache/store"
)

// selectorsOf notes by which request fields a response is selected.
func selectorsOf(set []string, request http.Header) []selector {
	if len(set) == 0 {
		return nil
	}
	all := make([]selector, len(set))
	for i, name := range set {
		all[i] = selector{name: name, value: fieldSource(request).normal(name)}
	}
	return all
}

// selectMap shows selectors to others: the value that the request field had, as the
// key holds it, and nil where the request did not have the field.
func selectMap(all []selector) map[string]*string {
	if len(all) == 0 {
		return nil
	}
	m := make(map[string]*string, len(all))
	for _, s := range all {
		value := s.value
		switch {
		case value == "":
			m[s.name] = nil
			continue
		case s.name != "accept-encoding":
			value = strings.TrimPrefix(value, "=")
		}
		m[s.name] = &value
	}
	return m
}

// The selectors of a response that content selects. No request field has such a name.
const (
	methodSelector  = ":method"
	contentSelector = ":content"
)

// selectors are those of the response to method with the content.
func (c *Content) selectors(method string) []selector {
	if c == nil {
		return nil
	}
	return []selector{{methodSelector, "=" + method}, {contentSelector, "=" + c.Kind + ":" + hex.EncodeToString(c.Key[:])}}
}

// askedFor is what selects a response beside the target URI and request fields: a
// method and its content, or nothing.
type askedFor struct {
	method  string
	content *Content // without Bytes
}

// askedOf takes them out of what selectMap made; false where they are damaged.
func askedOf(m map[string]*string) (asked askedFor, fields map[string]*string, ok bool) {
	method, content := m[methodSelector], m[contentSelector]
	if method == nil && content == nil {
		return asked, m, true
	}
	if method == nil || content == nil || *method == "" {
		return asked, m, false
	}
	kind, digest, _ := strings.Cut(*content, ":")
	key, err := hex.DecodeString(digest)
	if err != nil || len(key) != len(Content{}.Key) {
		return asked, m, false
	}
	fields = maps.Clone(m)
	delete(fields, methodSelector)
	delete(fields, contentSelector)
	return askedFor{*method, &Content{Kind: kind, Key: [32]byte(key)}}, fields, true
}

// key is the primary key of a response under a rule.
func (a askedFor) key(u *url.URL, rule *Rule) store.Key {
	if a.content == nil {
		return primaryKey(u, rule)
	}
	return contentKey(u, rule, a.method, a.content)
}

// requestOf is a request header that selectMap makes m of.
func requestOf(m map[string]*string) (set []string, header http.Header) {
	header = make(http.Header, len(m))
	names := make([]string, 0, len(m))
	for name, value := range m {
		names = append(names, name)
		if value != nil {
			header[http.CanonicalHeaderKey(name)] = []string{*value}
		}
	}
	return fieldSet(names), header
}
