package ca

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
)

func TestLogHasEveryIntermediate(t *testing.T) {
	a := open(t, Options{PermittedDNS: []string{"example.org"}})
	first := a.Issuing()
	if err := a.Permit([]string{"example.org", "10.0.0.0/8"}); err != nil {
		t.Fatal(err)
	}
	if err := a.Permit(nil); err != nil {
		t.Fatal(err)
	}
	entries, broken, err := (Keeper{Dir: a.dir}).Log()
	if err != nil || broken != 0 || len(entries) != 4 {
		t.Fatalf("%d entries, %d broken, %v", len(entries), broken, err)
	}
	logged, err := x509.ParseCertificate(entries[1].Certificate)
	if err != nil || !logged.Equal(first) {
		t.Errorf("the certificate in the log is not the one that was issued: %v", err)
	}
	if got := entries[2].Permitted; len(got) != 2 || got[0] != "example.org" || got[1] != "10.0.0.0/8" {
		t.Errorf("permitted %v", got)
	}
	if entries[3].Permitted != nil {
		t.Errorf("without constraints: permitted %v", entries[3].Permitted)
	}
}

func TestLogAfterACrash(t *testing.T) {
	a := open(t, Options{PermittedDNS: []string{"example.org"}})
	path := filepath.Join(a.dir, logFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data[:len(data)-9], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Permit(nil); err != nil {
		t.Fatal(err)
	}
	entries, broken, err := (Keeper{Dir: a.dir}).Log()
	if err != nil || broken != 1 || len(entries) != 2 {
		t.Errorf("%d entries, %d broken, %v", len(entries), broken, err)
	}
}

func TestNothingIsSignedThatCannotBeLogged(t *testing.T) {
	a := open(t, Options{PermittedDNS: []string{"example.org"}})
	if err := os.Remove(filepath.Join(a.dir, logFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(a.dir, logFile), 0o700); err != nil {
		t.Fatal(err)
	}
	before := a.Issuing()
	if err := a.Permit(nil); err == nil || !a.Issuing().Equal(before) {
		t.Errorf("signed without a log: %v", err)
	}
	if _, err := (Keeper{Dir: a.dir}).IssueNode("n1", nil, nil, nil); err == nil {
		t.Error("issued without a log")
	}
}

func FuzzParseLog(f *testing.F) {
	f.Add([]byte("{\"kind\":\"root\"}\n{\"kind\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, broken := parseLog(data)
		if len(entries)+broken > len(data) {
			t.Fatalf("%d entries, %d broken of %d octets", len(entries), broken, len(data))
		}
	})
}

func FuzzParseBundle(f *testing.F) {
	data, err := (Keeper{Dir: open(f, Options{}).dir}).IssueNode("n1", nil, nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parseBundle(data)
		if err != nil {
			return
		}
		if _, err := parseBundle(b.pem()); err != nil {
			t.Fatalf("not read again: %v", err)
		}
		b.issuer() // must not panic
	})
}

// FuzzDecodeConstraints checks that what is taken from a request is written the
// same again: nothing is permitted that was not asked for.
func FuzzDecodeConstraints(f *testing.F) {
	for _, dns := range [][]string{{}, {"example.org"}, {"b.test", "10.0.0.0/8"}, {"::/0", "0.0.0.0/0"}} {
		der, err := mustConstrain(f, dns...).encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := decodeConstraints(der)
		if err != nil {
			return
		}
		if again, err := c.encode(); err != nil || string(again) != string(der) || c.unbounded {
			t.Fatalf("%x becomes %x, %v", der, again, err)
		}
	})
}

func TestConstraintsSurviveARequest(t *testing.T) {
	for _, dns := range [][]string{nil, {}, {"example.org"}, {"b.test", "a.test", "10.0.0.0/8", "2001:db8::/32"}, {"192.0.2.7"}} {
		want := mustConstrain(t, dns...)
		extensions, err := want.requested()
		if err != nil {
			t.Fatal(err)
		}
		csrPEM, _, err := newRequest(extensions)
		if err != nil {
			t.Fatal(err)
		}
		got, err := askedFor(csrPEM)
		if err != nil || !got.covers(want) || !want.covers(got) {
			t.Errorf("%v: the request says %+v, %v", dns, got, err)
		}
	}
}
