package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// findings is a Doctor.
type findings []Finding

func (f *findings) Findings() []Finding { return *f }

func (f *findings) Clear() int {
	n := len(*f)
	*f = nil
	return n
}

// TestFindingsAreSecretAndCanBeForgotten asks over TCP, with the token and without.
func TestFindingsAreSecretAndCanBeForgotten(t *testing.T) {
	now := time.Now().UTC()
	known := &findings{
		{Client: "10.0.3.7", Host: "repo.example", Tool: "java", Title: "a Java-like client", Basis: "its ciphers", Reason: "unknown_ca", Count: 2, First: now, Last: now, Mended: now, Do: "something", See: "somewhere"},
		{Client: "10.0.3.8", User: "ci", Run: "npm", Host: "repo.example", JA4: "t13", UserAgent: "x/1", Pinned: true, Elsewhere: now},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, New(Options{Doctor: known, Token: "secret"})) }() // ends with ctx
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	stranger := NewClient(l.Addr().String(), "guess", nil)
	defer stranger.Close()
	_, err = stranger.Findings(t.Context())
	_, err2 := stranger.ClearFindings(t.Context())
	for _, err := range []error{err, err2} {
		if no, ok := errors.AsType[*RefusedError](err); !ok || no.Status != http.StatusUnauthorized {
			t.Errorf("without the token: %v", err)
		}
	}
	owner := NewClient(l.Addr().String(), "secret", nil)
	defer owner.Close()
	got, err := owner.Findings(t.Context())
	if d := cmp.Diff([]Finding(*known), got); d != "" || err != nil {
		t.Errorf("findings: %v\n%s", err, d)
	}
	if n, err := owner.ClearFindings(t.Context()); n != 2 || err != nil {
		t.Errorf("cleared %d, %v", n, err)
	}
	if got, err := owner.Findings(t.Context()); len(got) != 0 || err != nil {
		t.Errorf("after clearing: %v, %v", got, err)
	}
}

func TestWithoutADoctorThereIsNoAPI(t *testing.T) {
	if got := ask(t, New(Options{}), "GET", "/api/v1/doctor"); got.Code != http.StatusNotFound {
		t.Errorf("%d", got.Code)
	}
}
