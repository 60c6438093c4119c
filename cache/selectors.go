package cache

import (
	"net/http"
	"strings"
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
