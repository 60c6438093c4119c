package pypi

import "strings"

// Normalize returns the normalized form of a project's name (PEP 503): lower case,
// with each run of "-", "_" and "." as one "-".
func Normalize(name string) string {
	if isNormal(name) {
		return name
	}
	b := make([]byte, 0, len(name))
	run := false
	for i := range len(name) {
		c := name[i]
		if c == '-' || c == '_' || c == '.' {
			run = true
			continue
		}
		if run {
			b = append(b, '-')
			run = false
		}
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	if run {
		b = append(b, '-')
	}
	return string(b)
}

func isNormal(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c == '_' || c == '.' || c >= 'A' && c <= 'Z' || c == '-' && i > 0 && name[i-1] == '-' {
			return false
		}
	}
	return true
}

// ValidName reports whether a project can have this name (PEP 508): ASCII letters,
// digits, and in between also "-", "_" and ".".
func ValidName(name string) bool {
	if name == "" || strings.Trim(name[:1]+name[len(name)-1:], "-_.") != name[:1]+name[len(name)-1:] {
		return false
	}
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}
