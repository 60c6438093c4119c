package cache

import (
	"net/http"
	"slices"
	"strings"
)

// maxVariantSets bounds the Vary field sets that are remembered for one target URI.
// Origins use one, at most two (npm's 200 and 304 differ); each costs a look-up.
const maxVariantSets = 4

// fieldSource is the header of a request as seen by keys.
type fieldSource http.Header

// normal returns the value of the field name (lower case) in the form that keys
// hold. Several lines are joined as RFC 9110, section 5.3, allows, white space
// around commas is dropped, and where two values mean the same they are made equal
// (RFC 9111, section 4.1). A field that is absent differs from an empty one.
func (h fieldSource) normal(name string) string {
	values := http.Header(h)[http.CanonicalHeaderKey(name)]
	switch name {
	case "accept-encoding":
		return normalAcceptEncoding(values)
	case "accept":
		if v := normalList(values); v != "" && v != "*/*" {
			return "=" + v
		}
		return "" // RFC 9110, section 12.5.1: absent means any media type.
	case "accept-language":
		if len(values) > 0 {
			// RFC 5646, section 2.1.1: case means nothing. The order stays: RFC 9110,
			// section 12.5.4, gives it no meaning, and origins do.
			return "=" + strings.ToLower(normalList(values))
		}
	}
	if len(values) == 0 {
		return ""
	}
	return "=" + normalList(values)
}

func normalList(values []string) string {
	if len(values) == 1 && !strings.Contains(values[0], ",") {
		return strings.TrimSpace(values[0])
	}
	var parts []string
	for _, v := range values {
		if strings.Contains(v, `"`) {
			// A comma inside a quoted string separates nothing.
			parts = append(parts, strings.TrimSpace(v))
			continue
		}
		for p := range strings.SplitSeq(v, ",") {
			if p = strings.TrimSpace(p); p != "" {
				parts = append(parts, p)
			}
		}
	}
	return strings.Join(parts, ", ")
}

// normalAcceptEncoding reduces Accept-Encoding to the codings worth telling apart,
// in a fixed order: twelve spellings seen from package clients become at most eight
// classes. It is also what a fill sends upstream, so that a response is a function
// of its key. A client without any of them gets "identity", which every client
// accepts that does not say otherwise (RFC 9110, section 12.5.3).
func normalAcceptEncoding(values []string) string {
	var br, gzip, zstd bool
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			coding, weight, _ := strings.Cut(part, ";")
			if zeroWeight(weight) {
				continue
			}
			switch strings.ToLower(strings.TrimSpace(coding)) {
			case "br":
				br = true
			case "gzip", "x-gzip":
				gzip = true
			case "zstd":
				zstd = true
			}
		}
	}
	var list []string
	if br {
		list = append(list, "br")
	}
	if gzip {
		list = append(list, "gzip")
	}
	if zstd {
		list = append(list, "zstd")
	}
	if len(list) == 0 {
		return "identity"
	}
	return strings.Join(list, ", ")
}

// zeroWeight reports whether the parameters of a list member hold q=0.
func zeroWeight(params string) bool {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			return strings.Trim(strings.TrimSpace(value), "0.") == "" && strings.TrimSpace(value) != ""
		}
	}
	return false
}

// fieldSet returns names in lower case, sorted, each once.
func fieldSet(names []string) []string {
	set := make([]string, 0, len(names))
	for _, n := range names {
		if n = strings.ToLower(strings.TrimSpace(n)); n != "" {
			set = append(set, n)
		}
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// varyFields returns the members of a response's Vary field. any is true when one of
// them is "*", which no later request matches (RFC 9111, section 4.1).
func varyFields(header http.Header) (set []string, any bool) {
	var names []string
	for _, v := range header["Vary"] {
		names = append(names, strings.Split(v, ",")...)
	}
	set = fieldSet(names)
	return set, slices.Contains(set, "*")
}

// keyFields returns the request fields that select a response: what its Vary names
// and what the rule requires. A response with a content coding depends on
// Accept-Encoding even when the origin forgot to say so. And one without, where the
// rule rather than HTTP has the word, suits every client: if codings were offered
// and none was used the origin has none; artifacts are archives already.
func keyFields(rule *Rule, sent, response http.Header) []string {
	set, _ := varyFields(response)
	coded := !isIdentity(response)
	if coded {
		set = append(set, "accept-encoding")
	}
	required := rule.required()
	if !coded && rule.Mode != HTTP && !slices.Contains(required, "accept-encoding") {
		offered := fieldSource(sent).normal("accept-encoding") != "identity"
		if rule.Mode == Immutable || offered {
			set = slices.DeleteFunc(set, func(n string) bool { return n == "accept-encoding" })
		}
	}
	if rule.byContent() {
		return nil // the digest has selected it
	}
	if rule.Access != AccessByResponse && rule.sameForAll() {
		// Who may have it is another question, and nobody gets another one.
		set = slices.DeleteFunc(set, IsSecret)
	}
	set = fieldSet(append(set, required...))
	// The cache itself answers ranges and preconditions, and fields of one
	// connection go nowhere.
	return slices.DeleteFunc(set, func(n string) bool {
		name := http.CanonicalHeaderKey(n)
		return ownCopyField(name) || hopByHop(name)
	})
}

// isIdentity reports whether the response body carries no content coding.
func isIdentity(response http.Header) bool {
	for _, v := range response["Content-Encoding"] {
		if v = strings.TrimSpace(v); v != "" && !strings.EqualFold(v, "identity") {
			return false
		}
	}
	return true
}

// sameFields reports whether two requests agree in every field of set.
func sameFields(set []string, a, b http.Header) bool {
	for _, name := range set {
		if fieldSource(a).normal(name) != fieldSource(b).normal(name) {
			return false
		}
	}
	return true
}

// containsAll reports whether the sorted set holds every member of need.
func containsAll(set, need []string) bool {
	for _, n := range need {
		if _, ok := slices.BinarySearch(set, n); !ok {
			return false
		}
	}
	return true
}
