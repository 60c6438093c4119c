package firewall

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// update is the flag -update; a test binary has no main to own it.
var update = flag.Bool("update", false, "rewrite the expected texts in testdata")

func uid(n uint32) *uint32 { return &n }

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

// TestText holds each ruleset to a file that is also there to be read.
func TestText(t *testing.T) {
	for name, r := range map[string]Ruleset{
		"redirect": {Mode: Redirect, Port: 3130},
		"redirect-node": {
			Mode: Redirect, Port: 3130, Ports: []int{80, 443, 8443}, Local: true, UID: uid(997),
			Sources: prefixes("10.0.0.0/8", "fd00::/8"), Interfaces: []string{"docker0", "br-*"},
		},
		"tproxy": {Mode: TProxy, Port: 3131},
		"tproxy-from": {
			Mode: TProxy, Port: 3131, Ports: []int{443},
			Sources: prefixes("10.0.0.0/8", "192.168.0.7/32", "fd00::/8"), Interfaces: []string{"lan0"},
		},
		"egress-gateway": {
			Mode: Egress, UID: uid(997),
			Resolvers: []netip.Addr{netip.MustParseAddr("10.0.0.53"), netip.MustParseAddr("fd00::53")},
			Allow:     prefixes("10.20.0.0/16", "10.20.1.0/24", "10.20.0.0/16"),
		},
		"egress-node": {
			Mode: Egress,
			Larder: []netip.AddrPort{
				netip.MustParseAddrPort("10.0.0.5:3128"), netip.MustParseAddrPort("10.0.0.6:3128"), netip.MustParseAddrPort("[fd00::5]:3128"),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := r.Text()
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".nft")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestTextRefuses(t *testing.T) {
	for _, c := range []struct {
		r    Ruleset
		want string
	}{
		{Ruleset{Mode: "drop"}, `there is no mode "drop"`},
		{Ruleset{Mode: Redirect}, "port 0"},
		{Ruleset{Mode: Redirect, Port: 3130, Ports: []int{70000}}, "port 70000"},
		{Ruleset{Mode: Redirect, Port: 443}, "turned to themselves"},
		{Ruleset{Mode: Redirect, Port: 3130, Local: true}, "larder's user is needed"},
		{Ruleset{Mode: TProxy, Port: 3130, Local: true, UID: uid(1)}, "in mode redirect only"},
		{Ruleset{Mode: TProxy, Port: 3130, Interfaces: []string{`a" accept #`}}, "not the name of a network interface"},
		{Ruleset{Mode: TProxy, Port: 3130, Interfaces: []string{"*a"}}, "not the name of a network interface"},
		{Ruleset{Mode: TProxy, Port: 3130, Allow: prefixes("10.0.0.0/8")}, "use egress beside it"},
		{Ruleset{Mode: Egress}, "nobody would get out"},
		{Ruleset{Mode: Egress, UID: uid(1), Sources: prefixes("10.0.0.0/8")}, "for everybody"},
		{Ruleset{Mode: Egress, Larder: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:3128")}}, "no address of larder on another machine"},
	} {
		text, err := c.r.Text()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q\n%s", c.r, err, c.want, text)
		}
	}
}
