package git

import (
	"net/url"
	"strings"
)

// isFilter reports whether a filter of git rev-list means the same at any time.
func (p *requestReader) isFilter(spec string) bool {
	if list, ok := strings.CutPrefix(spec, "combine:"); ok {
		for part := range strings.SplitSeq(list, "+") {
			plain, err := url.PathUnescape(part)
			if err != nil || strings.HasPrefix(plain, "combine:") || !p.isFilter(plain) {
				return false
			}
		}
		return true
	}
	name, value, _ := strings.Cut(spec, ":")
	switch name {
	case "blob":
		size, limited := strings.CutPrefix(value, "limit=")
		return value == "none" || limited && isSize(size)
	case "tree":
		return value == "0" || isNumber(value)
	case "object":
		switch value {
		case "type=blob", "type=tree", "type=commit", "type=tag":
			return true
		}
	case "sparse":
		// By its name, not as branch:path.
		object, ok := strings.CutPrefix(value, "oid=")
		return ok && p.isName(object)
	}
	return false
}

func isSize(s string) bool {
	if n := len(s); n > 1 && strings.IndexByte("kmg", s[n-1]) >= 0 {
		s = s[:n-1]
	}
	return s == "0" || isNumber(s)
}
