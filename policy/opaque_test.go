package policy

import "testing"

func TestMayTunnelOnlyWhereNothingCanBeDenied(t *testing.T) {
	const rules = `
rules:
  - {name: no-secrets, hosts: ["a.test"], paths: ["/secret/**"], action: deny}
  - {name: a, hosts: ["a.test"], action: pass}
  - {name: no-delete, hosts: ["b.test"], ports: [443], methods: [DELETE], action: deny}
  - {name: c, hosts: ["c.test"], action: pass}
  - {name: later, hosts: ["{c,g}.test"], paths: ["/x"], action: deny}
  - {name: d-get, hosts: ["d.test"], methods: [GET], action: pass}
  - {name: d-rest, hosts: ["d.test"], action: deny}
  - {name: e-get, hosts: ["e.test", "10.0.0.1"], methods: [GET], action: pass}
`
	for _, c := range []struct {
		name, host  string
		port        int
		tunnel      bool // with default tunnel
		defaultDeny bool // with default deny
	}{
		{"a path is denied", "a.test", 443, false, false},
		{"the same in other spelling", "A.Test.", 443, false, false},
		{"a method is denied", "b.test", 443, false, false},
		{"only on another port", "b.test", 8443, true, false},
		{"an earlier rule takes everything", "c.test", 443, true, true},
		{"the later rule, where it is first", "g.test", 443, false, false},
		{"the rest is denied by a rule", "d.test", 443, false, false},
		{"the rest is up to the default", "e.test", 443, true, false},
		{"an address", "10.0.0.1", 443, true, false},
		{"a host that nothing names", "f.test", 443, true, false},
	} {
		for _, d := range []struct {
			text string
			want bool
		}{{"tunnel", c.tunnel}, {"deny", c.defaultDeny}} {
			p, err := Parse("test.yaml", []byte("presets: none\ndefault: "+d.text+rules))
			if err != nil {
				t.Fatal(err)
			}
			if got := p.MayTunnel(Client{}, c.host, c.port); got != d.want {
				t.Errorf("%s, default %s: got %v, want %v", c.name, d.text, got, d.want)
			}
		}
	}
}
