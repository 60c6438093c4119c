package policy

import (
	"fmt"
	"net/url"
	"strings"
)

// queryTerm is a parameter that a request must have.
type queryTerm struct {
	name, value string
	any         bool // whatever its value
}

// parseQueryTerm reads name=value, or name alone, as a query spells them.
func parseQueryTerm(s string) (queryTerm, *valueError) {
	name, value, has := strings.Cut(s, "=")
	if name == "" || strings.ContainsAny(s, "&#? ") {
		return queryTerm{}, badValue("write one parameter, as service=git-upload-pack, or its name alone", "%q is no query parameter", s)
	}
	t := queryTerm{any: !has}
	var err1, err2 error
	t.name, err1 = url.QueryUnescape(name)
	t.value, err2 = url.QueryUnescape(value)
	if err1 != nil || err2 != nil {
		return t, badValue("", "%q has an escape that is none", s)
	}
	return t, nil
}

// in reports whether a query has the parameter, once: of several the origin may take
// any.
func (t *queryTerm) in(query string) bool {
	found := 0
	for part := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(part, "=")
		if plainParameter(name) != t.name {
			continue
		}
		if found++; !t.any && plainParameter(value) != t.value {
			return false
		}
	}
	return found == 1
}

// plainParameter decodes a name or value. What cannot be decoded stands for itself.
func plainParameter(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}

func (r *Rule) matchesQuery(query string) bool {
	for i := range r.query {
		if !r.query[i].in(query) {
			return false
		}
	}
	return true
}

// queryKeys reports query where it would not hold what it promises.
func (d *ruleDecoder) queryKeys() {
	switch d.rule.Action {
	case Deny:
		d.complain("query", "deny by paths", "query has no place under action deny: servers read queries in more ways than one, and one of them would get around it")
	case Tunnel:
		d.complain("query", "use action pass to open the connection and let everything through unmodified",
			"query has no effect under action tunnel: a CONNECT does not show it")
	}
}

func (r *Rule) queryReason(query string) string {
	if query == "" {
		return fmt.Sprintf("it is for queries with %s, and there is none", strings.Join(r.Query, " and "))
	}
	return fmt.Sprintf("it is for queries with %s", strings.Join(r.Query, " and "))
}
