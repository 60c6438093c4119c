package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Mode is what a ruleset is for. Each has a table of its own, so that rulesets of
// different modes can be loaded beside each other.
type Mode string

const (
	// Redirect sends connections to a redirect listener of larder's on the same
	// machine, which may be a gateway or where the clients run.
	Redirect Mode = "redirect"
	// TProxy is the same for a tproxy listener: addresses stay as they are, and
	// connection tracking is not asked where a connection was going.
	TProxy Mode = "tproxy"
	// Egress lets out larder and what is listed, and nothing else.
	Egress Mode = "egress"
)

// Modes are all of them.
func Modes() []Mode { return []Mode{Redirect, TProxy, Egress} }

// TProxy packets get this mark, by which the kernel routes them to itself.
const (
	tproxyMark  = 0x6c64
	tproxyTable = tproxyMark
)

// Ruleset says what is to be written. Fields that a mode has no use for must be
// zero.
type Ruleset struct {
	Mode Mode

	// Port is that of larder's listener, for redirect and tproxy.
	Port int
	// Ports are the destinations that are turned to it. Empty: 80 and 443.
	Ports []int
	// Sources and Interfaces say whose connections: by their address, by where
	// they come in. Empty: everybody's.
	Sources    []netip.Prefix
	Interfaces []string
	// Local, in redirect: also those of this machine's own processes, except
	// larder's, whose UID must be given.
	Local bool

	// UID is the user that larder runs as on this machine. nil: it runs elsewhere.
	UID *uint32
	// Larder, in egress, is where larder listens if it runs elsewhere. On the way
	// there a gateway lets larder itself out.
	Larder []netip.AddrPort
	// Allow, in egress, are networks that may be reached without larder, and
	// Resolvers name servers that everybody may ask.
	Allow     []netip.Prefix
	Resolvers []netip.Addr
}

// check returns everything that keeps the ruleset from being written.
func (r *Ruleset) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !slices.Contains(Modes(), r.Mode) {
		bad("there is no mode %q: modes are redirect, tproxy, egress", r.Mode)
		return errors.Join(errs...)
	}
	turns := r.Mode != Egress
	for _, p := range append([]int{r.Port}, r.Ports...) {
		if turns && (p < 1 || p > 65535) {
			bad("port %d is not from 1 to 65535", p)
		}
	}
	if turns && slices.Contains(r.ports(), r.Port) {
		bad("connections to port %d would be turned to themselves: larder listens there", r.Port)
	}
	for _, name := range r.Interfaces {
		if !isInterface(name) {
			bad("%q is not the name of a network interface", name)
		}
	}
	switch {
	case r.Local && r.Mode != Redirect:
		bad("processes of this machine can be turned to larder in mode redirect only")
	case r.Local && r.UID == nil:
		bad("larder's user is needed: its own connections must not be turned to itself")
	case r.Mode == Egress && r.UID == nil && len(r.Larder) == 0:
		bad("nobody would get out: say who larder is, by its user on this machine or by its address elsewhere")
	}
	for _, l := range r.Larder {
		if l.Addr().IsLoopback() || l.Addr().IsUnspecified() {
			bad("%s is no address of larder on another machine", l)
		}
	}
	if !turns && (len(r.Sources) > 0 || len(r.Interfaces) > 0 || len(r.Ports) > 0 || r.Port != 0) {
		bad("mode egress is for everybody and for every port")
	}
	if turns && (len(r.Larder) > 0 || len(r.Allow) > 0 || len(r.Resolvers) > 0) {
		bad("mode %s lets everything else go where it went; use egress beside it", r.Mode)
	}
	return errors.Join(errs...)
}

func isInterface(s string) bool {
	if s == "" || len(s) > 15 { // IFNAMSIZ
		return false
	}
	for i, c := range s {
		word := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !word && !strings.ContainsRune("_.-@:", c) && !(c == '*' && i == len(s)-1) {
			return false
		}
	}
	return true
}

func (r *Ruleset) ports() []int {
	if len(r.Ports) == 0 {
		return []int{80, 443}
	}
	sorted := slices.Clone(r.Ports)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

// Text is the ruleset for nft -f. Loading it again replaces the table as a whole
// and at once.
func (r Ruleset) Text() (string, error) {
	if err := r.check(); err != nil {
		return "", err
	}
	var w writer
	switch r.Mode {
	case Redirect:
		r.redirect(&w)
	case TProxy:
		r.tproxy(&w)
	case Egress:
		r.egress(&w)
	}
	return w.String(), nil
}

// writer indents by the braces that are open.
type writer struct {
	strings.Builder
	depth int
}

func (w *writer) line(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if text == "}" {
		w.depth--
	}
	if text != "" {
		w.WriteString(strings.Repeat("\t", w.depth))
	}
	w.WriteString(text + "\n")
	if strings.HasSuffix(text, "{") {
		w.depth++
	}
}

// table begins a table that replaces the one of the same name.
func (w *writer) table(name string) {
	w.line("table inet %s", name) // so that there is one to delete
	w.line("delete table inet %s", name)
	w.line("table inet %s {", name)
}

// set is a set of nftables in place, of one element or more.
func set[T any](elements []T, text func(T) string) string {
	all := make([]string, len(elements))
	for i, e := range elements {
		all[i] = text(e)
	}
	if len(all) == 1 {
		return all[0]
	}
	return "{ " + strings.Join(all, ", ") + " }"
}

// byFamily hands over the elements of IPv4, then those of IPv6, if there are any.
func byFamily[T any](elements []T, addr func(T) netip.Addr, each func(family string, of []T)) {
	var v4, v6 []T
	for _, e := range elements {
		if addr(e).Unmap().Is4() {
			v4 = append(v4, e)
		} else {
			v6 = append(v6, e)
		}
	}
	if len(v4) > 0 {
		each("ip", v4)
	}
	if len(v6) > 0 {
		each("ip6", v6)
	}
}

// apart leaves out networks that lie in others: nft takes them for a conflict.
func apart(all []netip.Prefix) (kept []netip.Prefix) {
	for i, p := range all {
		p = p.Masked()
		if !slices.ContainsFunc(all, func(o netip.Prefix) bool { return o.Bits() < p.Bits() && o.Contains(p.Addr()) }) &&
			!slices.Contains(kept, p) {
			kept = append(kept, all[i].Masked())
		}
	}
	return kept
}

func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func portText(p int) string { return strconv.Itoa(p) }
