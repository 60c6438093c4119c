package mitm

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseAuthority(t *testing.T) {
	for _, c := range []struct {
		in     string
		absent int
		want   string // "" for an error
	}{
		{"example.org:443", 0, "example.org:443"},
		{"EXAMPLE.Org:443", 0, "example.org:443"},
		{"example.org.:443", 0, "example.org:443"},
		{"bücher.example:443", 0, "xn--bcher-kva.example:443"},
		{"BÜCHER.example:443", 0, "xn--bcher-kva.example:443"},
		{"xn--bcher-kva.example:443", 0, "xn--bcher-kva.example:443"},
		{"under_score.example:8443", 0, "under_score.example:8443"},
		{"192.0.2.1:80", 0, "192.0.2.1:80"},
		{"[2001:DB8::1]:443", 0, "[2001:db8::1]:443"},
		{"[::ffff:10.0.0.1]:443", 0, "10.0.0.1:443"},
		{"example.org", 443, "example.org:443"},
		{"[::1]", 80, "[::1]:80"},
		{"localhost:1", 0, "localhost:1"},
		{"a:65535", 0, "a:65535"},

		{"example.org", 0, ""},
		{"example.org:", 443, ""},
		{"example.org:0", 0, ""},
		{"example.org:65536", 0, ""},
		{"example.org:000443", 0, ""},
		{"example.org:+443", 0, ""},
		{"example.org:-1", 0, ""},
		{"example.org:4 43", 0, ""},
		{"example.org:https", 0, ""},
		{"user@example.org:443", 0, ""},
		{"user:pw@example.org:443", 0, ""},
		{"example.org:443/path", 0, ""},
		{"example.org:443?q", 0, ""},
		{"example.org:443#f", 0, ""},
		{"http://example.org:443", 0, ""},
		{"[::1%25eth0]:443", 0, ""},
		{"[::1%eth0]:443", 0, ""},
		{"[[::1]]:443", 0, ""},
		{"[::1]:443:443", 0, ""},
		{"[::1]x:443", 0, ""},
		{"[::1]443", 443, ""},
		{"[10.0.0.1]:443", 0, ""},
		{"::1:443", 0, ""},
		{"a:b:443", 0, ""},
		{"]:443", 0, ""},
		{"[:443", 0, ""},
		{":443", 0, ""},
		{"", 443, ""},
		{".:443", 0, ""},
		{"a..b:443", 0, ""},
		{"-a.example:443", 0, ""},
		{"a b:443", 0, ""},
		{"a\x00b:443", 0, ""},
		{"a,b:443", 0, ""},
		{"*.example.org:443", 0, ""},
		{"127.1:443", 0, ""},
		{"2130706433:443", 0, ""},
		{"0x7f.0.0.1:443", 0, ""},
		{"0x7f000001:443", 0, ""},
		{"0177.0.0.01:443", 0, ""},
		{"127.0.0.0x1:443", 0, ""},
		{"1.2.3.4.5:443", 0, ""},
		{"256.1.1.1:443", 0, ""},
		{strings.Repeat("a", 64) + ".example:443", 0, ""},
		{strings.Repeat("a.", 127) + "a:443", 0, ""},
	} {
		a, err := parseAuthority(c.in, c.absent)
		got := ""
		if err == nil {
			got = a.String()
		}
		if got != c.want {
			t.Errorf("parseAuthority(%q, %d) = %q, %v; want %q", c.in, c.absent, got, err, c.want)
		}
	}
}

func FuzzParseAuthority(f *testing.F) {
	for _, s := range []string{"a:1", "[::1]:443", "example.org", "bücher.example:443", "127.1:80", "u@h:1", "[::ffff:1.2.3.4]:5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseAuthority(s, 443)
		if err != nil {
			return
		}
		if a.Port < 1 || a.Port > 65535 {
			t.Fatalf("%q: port %d", s, a.Port)
		}
		if strings.ContainsAny(a.Host, "@/\\?#[]%* \t\r\n") || a.Host != strings.ToLower(a.Host) || len(a.Host) > 253 {
			t.Fatalf("%q: host %q", s, a.Host)
		}
		if strings.Contains(a.Host, ":") {
			if ip, err := netip.ParseAddr(a.Host); err != nil || !ip.Is6() || ip.Is4In6() {
				t.Fatalf("%q: host %q is not a plain IPv6 address", s, a.Host)
			}
		}
		again, err := parseAuthority(a.String(), 0)
		if err != nil || again != a {
			t.Fatalf("%q: %v reads back as %v, %v", s, a, again, err)
		}
	})
}
