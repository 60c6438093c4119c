package cache

import (
	"net/http"
	"strconv"
	"strings"
)

const (
	// maxRanges bounds the parts of one answer; more of them are answered by the
	// whole (RFC 9110, section 14.2, lets a server ignore Range; 17.15 says why).
	maxRanges = 64
	// maxOffset keeps sums of offsets within int64.
	maxOffset = int64(1) << 62
)

// byteRange is one member of a Range field as sent. last < 0: to the end.
// first < 0: the last -first bytes.
type byteRange struct{ first, last int64 }

// span is a range of an actual body.
type span struct{ off, n int64 }

// contentRange is the field's value for a body of size bytes (RFC 9110, section
// 14.4); size < 0: not known yet.
func (s span) contentRange(size int64) string {
	complete := "*"
	if size >= 0 {
		complete = strconv.FormatInt(size, 10)
	}
	return "bytes " + strconv.FormatInt(s.off, 10) + "-" + strconv.FormatInt(s.off+s.n-1, 10) + "/" + complete
}

// parseRange reads a Range field (RFC 9110, section 14.1.1). ok is false for what
// must be ignored: another unit, several lines, a syntax error, too many members.
func parseRange(values []string) (ranges []byteRange, ok bool) {
	if len(values) != 1 {
		return nil, false
	}
	unit, list, found := strings.Cut(values[0], "=")
	if !found || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return nil, false
	}
	for member := range strings.SplitSeq(list, ",") {
		member = strings.Trim(member, " \t")
		if member == "" {
			continue
		}
		r, ok := parseByteRange(member)
		if !ok || len(ranges) == maxRanges {
			return nil, false
		}
		ranges = append(ranges, r)
	}
	return ranges, len(ranges) > 0
}

func parseByteRange(s string) (byteRange, bool) {
	first, last, found := strings.Cut(s, "-")
	if !found {
		return byteRange{}, false
	}
	if first == "" {
		n, ok := parseOffset(last)
		if n == 0 {
			// A suffix of no bytes is valid and never satisfiable.
			return byteRange{first: maxOffset, last: -1}, ok
		}
		return byteRange{first: -n, last: -1}, ok
	}
	r := byteRange{last: -1}
	var ok bool
	if r.first, ok = parseOffset(first); !ok {
		return byteRange{}, false
	}
	if last == "" {
		return r, true
	}
	if r.last, ok = parseOffset(last); !ok || r.last < r.first {
		return byteRange{}, false
	}
	return r, true
}

func parseOffset(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		if n = n*10 + int64(s[i]-'0'); n > maxOffset/16 {
			n = maxOffset / 16
		}
	}
	return n, true
}

// resolve returns the satisfiable ranges of a body of size bytes; none: 416.
func resolve(ranges []byteRange, size int64) []span {
	var spans []span
	for _, r := range ranges {
		if r.first < 0 {
			n := min(-r.first, size)
			if n > 0 {
				spans = append(spans, span{size - n, n})
			}
			continue
		}
		if r.first >= size {
			continue
		}
		end := size
		if r.last >= 0 {
			end = min(r.last+1, size)
		}
		spans = append(spans, span{r.first, end - r.first})
	}
	return spans
}

// rangesOf returns the ranges to answer a GET with, given the response that would
// otherwise be sent whole; ok is false when it is to be sent whole.
func rangesOf(r *http.Request, status int, response http.Header) ([]byteRange, bool) {
	if r.Method != http.MethodGet || status != http.StatusOK || len(r.Header["Range"]) == 0 {
		return nil, false
	}
	if !ifRange(r.Header["If-Range"], response) {
		return nil, false
	}
	return parseRange(r.Header["Range"])
}

// ifRange is RFC 9110, section 13.1.5: a strong entity tag that is the response's, or
// exactly its Last-Modified, provided that this is a strong validator.
func ifRange(values []string, response http.Header) bool {
	if len(values) == 0 {
		return true
	}
	if len(values) > 1 {
		return false
	}
	v := strings.TrimSpace(values[0])
	if strings.HasPrefix(v, `"`) || isWeak(v) {
		return strongEqual(v, response.Get("Etag"))
	}
	lm, strong := strongDate(response)
	return strong && v == lm
}

// overlapsMuch reports whether several spans together are no smaller than the body,
// so that sending it whole is cheaper.
func overlapsMuch(spans []span, size int64) bool {
	var sum int64
	for _, s := range spans {
		sum += s.n
	}
	return sum >= size
}
