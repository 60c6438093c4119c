package certs

import (
	"net/netip"
	"slices"
	"strings"
)

// ownHosts are the machine itself, which no proxy can stand in for.
func ownHosts() []string { return []string{"localhost", "127.0.0.1", "::1"} }

// mergeNoProxy returns the hosts that are reached without a proxy in the one
// dialect that all tools read (ECOSYSTEMS.md, 7.2): names, suffixes with a
// leading dot, addresses one by one. What cannot be said in it is left out, and
// the note says so.
func mergeNoProxy(extra []string, current func(string) string) (hosts []string, note string) {
	var dropped []string
	add := func(entry string) {
		entry = strings.ToLower(strings.TrimSpace(entry))
		if entry == "" {
			return
		}
		host, ok := noProxyHost(entry)
		switch {
		case !ok && !slices.Contains(dropped, entry):
			dropped = append(dropped, entry)
		case ok && !slices.Contains(hosts, host):
			hosts = append(hosts, host)
		}
	}
	for _, entry := range slices.Concat(ownHosts(), extra) {
		add(entry)
	}
	for _, name := range []string{"no_proxy", "NO_PROXY"} {
		// Some tools take blanks between entries for separators.
		for entry := range strings.FieldsFuncSeq(current(name), isSeparator) {
			add(entry)
		}
	}
	if len(dropped) > 0 {
		note = "left out, since few clients understand it: " + strings.Join(dropped, " ")
	}
	return hosts, note
}

func isSeparator(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }

// noProxyHost brings an entry into the common dialect, if it can be.
func noProxyHost(entry string) (host string, ok bool) {
	if prefix, err := netip.ParsePrefix(entry); err == nil {
		return prefix.Addr().String(), prefix.IsSingleIP()
	}
	literal := strings.TrimSuffix(strings.TrimPrefix(entry, "["), "]")
	if addr, err := netip.ParseAddr(literal); err == nil {
		return addr.String(), true
	}
	if strings.HasPrefix(entry, "*.") {
		entry = entry[1:]
	}
	if strings.Trim(entry, ".") == "" || strings.ContainsAny(entry, "*?/|\"'\\$`;&<>(){}[]!#") {
		return "", false
	}
	return entry, true
}
