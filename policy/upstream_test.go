package policy

import (
	"strings"
	"testing"
	"time"
)

func TestUpstreamIsReadAsWritten(t *testing.T) {
	p, err := Load("testdata/valid-upstream.yaml")
	if err != nil {
		t.Fatal(err)
	}
	u := p.Settings().Upstream
	var parents []string
	for _, p := range u.Parents {
		s := "direct"
		if p.Proxy != nil {
			s = p.Proxy.String()
		}
		parents = append(parents, s+" "+p.CAFile+" "+p.CredentialsFile)
	}
	want := "direct  |socks5://[::1]:1080  testdata/socks.secret|https://proxy.corp.test:3129 testdata/proxy.pem "
	if got := strings.Join(parents, "|"); got != want {
		t.Errorf("parents\n%s, want\n%s", got, want)
	}
	o := u.Hosts[0]
	if !o.Match("A.corp.test.", 8443) || o.Match("a.corp.test", 443) || !u.Hosts[1].Match("10.0.0.1", 1) {
		t.Error("hosts do not match as written")
	}
	if !o.Injects("PUT") || o.Injects("HEAD") || !u.Hosts[1].Injects("HEAD") || u.Hosts[1].Injects("POST") {
		t.Error("methods do not match as written")
	}
	if want := (DNS{MinTTL: 0, MaxTTL: time.Hour, NegativeTTL: 5 * time.Second}); u.DNS != want || u.MaxConnectionsPerHost != 0 {
		t.Errorf("dns %+v, %d connections", u.DNS, u.MaxConnectionsPerHost)
	}
	if len(u.NoParent) != 8 {
		t.Errorf("no_parent %q", u.NoParent)
	}
}

// TestPasswordInAParentIsNotQuoted: errors of a reload go to the log.
func TestPasswordInAParentIsNotQuoted(t *testing.T) {
	for _, text := range []string{
		"upstream:\n  parents: [{hosts: [x], proxy: \"http://u:hunter2@p.test:1\"}]\n",
		"upstream:\n  parents: [{host: [x], proxy: \"http://u:hunter2@p.test:1\", ca_file: 1}]\n",
		"upstream:\n  parents: [{hosts: [x], proxy: \"ht tp://u:hunter2@p.test:1\"}]\n",
		"upstream:\n  parents: [{hosts: [x], proxy: \"u:hunter2@p.test:1\"}]\n",
	} {
		_, err := Parse("f.yaml", []byte(text))
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "no credentials") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
