package ca

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNewConstraintsIsMinimal(t *testing.T) {
	got, err := newConstraints(
		[]string{"*.Example.org", "files.example.org", ".pkg.test", "pkg.test.", "notexample.org", "10.1.2.3", "fd00::/8"},
		[]netip.Prefix{netip.MustParsePrefix("10.9.9.9/8"), netip.MustParsePrefix("192.0.2.0/24")},
	)
	if err != nil {
		t.Fatal(err)
	}
	wantDNS := []string{"example.org", "notexample.org", "pkg.test"}
	wantIPs := []string{"10.0.0.0/8", "192.0.2.0/24", "fd00::/8"}
	var ips []string
	for _, p := range got.ips {
		ips = append(ips, p.String())
	}
	if d := cmp.Diff(wantDNS, got.dns); d != "" {
		t.Errorf("names (-want +got):\n%s", d)
	}
	if d := cmp.Diff(wantIPs, ips); d != "" {
		t.Errorf("addresses (-want +got):\n%s", d)
	}
}

func TestNewConstraintsRefusesWhatBoundsNothing(t *testing.T) {
	for _, entry := range []string{"", "*", ".", "a b", "*.*.example.org", "example.org:443"} {
		if c, err := newConstraints([]string{entry}, nil); err == nil {
			t.Errorf("%q is accepted as %v", entry, c)
		}
	}
	for _, prefix := range []netip.Prefix{{}, netip.MustParsePrefix("::ffff:1.2.3.4/128")} {
		if c, err := newConstraints([]string{}, []netip.Prefix{prefix}); err == nil {
			t.Errorf("%v is accepted as %v", prefix, c)
		}
	}
}

func mustConstrain(t testing.TB, dns ...string) constraints {
	t.Helper()
	c, err := newConstraints(dns, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConstraintsCover(t *testing.T) {
	none, all := mustConstrain(t, []string{}...), constraints{unbounded: true}
	none.unbounded = false
	org := mustConstrain(t, "example.org", "10.0.0.0/8")
	tests := []struct {
		name  string
		c, o  constraints
		cover bool
	}{
		{"everything covers a list", all, org, true},
		{"everything covers everything", all, all, true},
		{"a list does not cover everything", org, all, false},
		{"a list covers nothing", org, none, true},
		{"nothing does not cover a list", none, org, false},
		{"itself", org, org, true},
		{"a name below", org, mustConstrain(t, "a.example.org"), true},
		{"a name above", org, mustConstrain(t, "org"), false},
		{"a name that ends alike", org, mustConstrain(t, "notexample.org"), false},
		{"a narrower prefix", org, mustConstrain(t, "10.1.0.0/16"), true},
		{"a wider prefix", org, mustConstrain(t, "0.0.0.0/0"), false},
		{"another family", org, mustConstrain(t, "::/0"), false},
	}
	for _, tt := range tests {
		if got := tt.c.covers(tt.o); got != tt.cover {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestConstraintsSurviveTheCertificate(t *testing.T) {
	for _, dns := range [][]string{
		nil,
		{},
		{"example.org"},
		{"b.test", "a.test", "10.0.0.0/8", "2001:db8::/32", "192.0.2.7"},
		{"10.0.0.0/8"},
		{"::/0"},
		{"0.0.0.0/0", "::/0"},
		{"invalid", "255.255.255.255"},
	} {
		a := open(t, Options{PermittedDNS: dns})
		want, err := newConstraints(dns, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := constraintsOf(a.Issuing())
		if got.unbounded != want.unbounded || !slices.Equal(got.dns, want.dns) || !slices.Equal(got.ips, want.ips) {
			t.Errorf("%v: certificate says %+v, want %+v", dns, got, want)
		}
		if critical := a.Issuing().PermittedDNSDomainsCritical; critical == want.unbounded {
			t.Errorf("%v: constraints are critical: %v", dns, critical)
		}
	}
}

// TestLeafOutsideTheConstraintsFailsVerification signs with a stolen
// intermediate, so to say: without asking the authority.
func TestLeafOutsideTheConstraintsFailsVerification(t *testing.T) {
	tests := []struct {
		permitted []string
		name      string
		verifies  bool
	}{
		{[]string{"example.org"}, "a.example.org", true},
		{[]string{"example.org"}, "example.org", true},
		{[]string{"example.org"}, "notexample.org", false},
		{[]string{"example.org"}, "other.test", false},
		{[]string{"example.org"}, "10.1.2.3", false},
		{[]string{"example.org"}, "2001:db8::1", false},
		{[]string{"example.org", "10.0.0.0/8"}, "10.1.2.3", true},
		{[]string{"example.org", "10.0.0.0/8"}, "11.1.2.3", false},
		{[]string{"example.org", "10.0.0.0/8"}, "2001:db8::1", false},
		{[]string{"10.0.0.0/8"}, "example.org", false},
		{[]string{}, "example.org", false},
		{[]string{}, "10.1.2.3", false},
	}
	for _, tt := range tests {
		a := open(t, Options{PermittedDNS: tt.permitted})
		name, err := parseName(tt.name)
		if err != nil {
			t.Fatal(err)
		}
		cert := forge(t, a, tt.name)
		if err := verify(a, cert, tt.name); (err == nil) != tt.verifies {
			t.Errorf("%v permitted, leaf for %s: %v", tt.permitted, tt.name, err)
		}
		if _, err := a.Leaf(t.Context(), tt.name); (err == nil) != tt.verifies {
			t.Errorf("%v permitted, Leaf(%s): %v", tt.permitted, name, err)
		}
	}
}
