package ca

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"github.com/cloudflare/cfssl/signer/local"
)

func TestParseName(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	name253 := strings.Join([]string{label63, label63, label63, strings.Repeat("b", 61)}, ".")
	tests := []struct {
		name, in string
		want     string // "" for a refusal
		reason   string // part of it
	}{
		{"plain", "example.org", "example.org", ""},
		{"upper case", "EXAMPLE.Org", "example.org", ""},
		{"trailing dot", "example.org.", "example.org", ""},
		{"single label", "localhost", "localhost", ""},
		{"digits in front", "3.example.org", "3.example.org", ""},
		{"underscore", "my_bucket.example.org", "my_bucket.example.org", ""},
		{"two hyphens in third place", "r3---sn.example.org", "r3---sn.example.org", ""},
		{"U-label", "Bücher.example", "xn--bcher-kva.example", ""},
		{"U-label with capitals outside of ASCII", "BÜCHER.example", "xn--bcher-kva.example", ""},
		{"ideographic full stops", "例え。テスト。", "xn--r8jz45g.xn--zckzah", ""},
		{"A-label", "XN--Bcher-KVA.example", "xn--bcher-kva.example", ""},
		{"sharp s is not ss", "straße.example", "xn--strae-oqa.example", ""},
		{"253 octets", name253, name253, ""},
		{"253 octets and a trailing dot", name253 + ".", name253, ""},
		{"IPv4", "192.0.2.7", "192.0.2.7", ""},
		{"IPv6", "2001:DB8::0:1", "2001:db8::1", ""},
		{"IPv6 in brackets", "[2001:db8::1]", "2001:db8::1", ""},
		{"IPv4 inside of IPv6", "::ffff:192.0.2.7", "192.0.2.7", ""},

		{"empty", "", "", "empty"},
		{"dot", ".", "", "empty label"},
		{"two trailing dots", "example.org..", "", "empty label"},
		{"leading dot", ".example.org", "", "empty label"},
		{"empty label", "a..example.org", "", "empty label"},
		{"wildcard", "*.example.org", "", "wildcards"},
		{"wildcard inside", "a*.example.org", "", "character"},
		{"254 octets", "x" + name253, "", "longer than 253"},
		{"label of 64", "a" + label63 + ".example", "", "63"},
		{"longer than is looked at", strings.Repeat("ä", 9000), "", "longer than 253"},
		{"hyphen in front", "-a.example", "", "hyphen"},
		{"hyphen behind", "a-.example", "", "hyphen"},
		{"blank", "a b.example", "", "character"},
		{"NUL", "example.org\x00.evil.test", "", "character"},
		{"line end", "example.org\n", "", "character"},
		{"e-mail address", "root@example.org", "", "character"},
		{"URI", "https://example.org/", "", "host name"},
		{"path", "/etc/passwd", "", "character"},
		{"port", "example.org:443", "", "port"},
		{"port behind an address", "192.0.2.7:443", "", "port"},
		{"not UTF-8", "a\xff.example", "", "UTF-8"},
		{"broken A-label", "xn--\u007f.example", "", "internationalised"},
		{"short IPv4", "127.1", "", "number"},
		{"octal IPv4", "0177.0.0.01", "", "number"},
		{"hexadecimal IPv4", "0x7f.0.0.0x1", "", "number"},
		{"IPv4 out of range", "256.0.0.1", "", "number"},
		{"zone", "fe80::1%eth0", "", "zone"},
		{"open bracket", "[2001:db8::1", "", "bracket"},
		{"IPv4 in brackets", "[192.0.2.7]", "", "brackets"},
		{"name in brackets", "[example.org]", "", "IP address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseName(tt.in)
			if tt.want != "" {
				if err != nil || got.String() != tt.want {
					t.Errorf("parseName(%q) = %q, %v, want %q", tt.in, got, err, tt.want)
				}
				return
			}
			refusal, ok := errors.AsType[*NameError](err)
			if !ok {
				t.Fatalf("parseName(%q) = %q, %v, want a *NameError", tt.in, got, err)
			}
			if !strings.Contains(refusal.Reason, tt.reason) {
				t.Errorf("reason %q does not mention %q", refusal.Reason, tt.reason)
			}
			if strings.ContainsAny(err.Error(), "\x00\n") {
				t.Errorf("message carries control characters: %q", err)
			}
		})
	}
}

// FuzzParseName checks that what is accepted has one spelling, that cfssl sorts
// it into the kind of name that we think it is, and that a client's comparison
// finds it.
func FuzzParseName(f *testing.F) {
	for _, seed := range []string{
		"example.org", "EXAMPLE.org.", "*.example.org", "192.0.2.7", "[2001:db8::1]", "::ffff:1.2.3.4",
		"bücher.example", "xn--bcher-kva.example", "例え。テスト", "a@b", "https://x/", "127.1", "0x7f.1",
		"fe80::1%1", "a..b", "-a", "a_b", "\x00", "ª.example", "faß.de", "１.２.３.４", "a\u200db",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		name, err := parseName(in)
		if err != nil {
			if _, ok := errors.AsType[*NameError](err); !ok {
				t.Fatalf("%q: %v is no *NameError", in, err)
			}
			return
		}
		spelling := name.String()
		if again, err := parseName(spelling); err != nil || again != name {
			t.Fatalf("%q: %q becomes %q, %v", in, spelling, again, err)
		}
		var cert x509.Certificate
		local.OverrideHosts(&cert, []string{spelling})
		if name.addr.IsValid() {
			if len(cert.IPAddresses) != 1 || cert.IPAddresses[0].String() != spelling {
				t.Fatalf("%q: cfssl makes %v of address %q", in, cert.IPAddresses, spelling)
			}
		} else if len(cert.DNSNames) != 1 || cert.DNSNames[0] != spelling {
			t.Fatalf("%q: cfssl makes %v of name %q", in, cert.DNSNames, spelling)
		}
		if err := cert.VerifyHostname(spelling); err != nil {
			t.Fatalf("%q: %v", in, err)
		}
	})
}
