package shapes

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func read(t *testing.T, text string) ([]Shape, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.txt")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := Read(file)
	for i := range all {
		all[i].File = ""
	}
	return all, err
}

func TestRead(t *testing.T) {
	got, err := read(t, `# A registry.
@index 302
  > Accept: text/*
  Cache-Control: max-age=60

files  immutable   -    https://{a,b}.example.org/<4>/x
-      tunnel      -    PUT(any) https://c.example.org/
lists  revalidate  1d   https://{a}.example.org/l @index unstored
`)
	if err != nil {
		t.Fatal(err)
	}
	plain := Exchange{Status: 200, Request: http.Header{}, Response: http.Header{"Etag": {`"1"`}}}
	want := []Shape{
		{Line: 6, Rule: "files", Action: "immutable", Method: "GET", URL: "https://a.example.org/9f86/x", Exchange: plain},
		{Line: 6, Rule: "files", Action: "immutable", Method: "GET", URL: "https://b.example.org/9f86/x", Exchange: plain},
		{Line: 7, Action: "tunnel", Method: "PUT", Body: "any", URL: "https://c.example.org/", Exchange: plain},
		{
			Line: 8, Rule: "lists", Action: "revalidate", TTL: 24 * time.Hour, Method: "GET", URL: "https://a.example.org/l", Unstored: true,
			Exchange: Exchange{Name: "index", Status: 302, Request: http.Header{"Accept": {"text/*"}}, Response: http.Header{"Cache-Control": {"max-age=60"}}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("shapes differ (-want +got):\n%s", diff)
	}
}

func TestReadRefusesWhatItDoesNotKnow(t *testing.T) {
	for name, text := range map[string]string{
		"a field of no exchange":   "  A: b\n",
		"a field after a shape":    "x pass - https://a/\n  A: b\n",
		"a field without colon":    "@x\n  word\n",
		"an exchange given twice":  "@x\n@x\n",
		"a status that is none":    "@x many\n",
		"an exchange not given":    "x pass - https://a/ @y\n",
		"a ttl that is none":       "x pass soon https://a/\n",
		"a row with too few words": "x pass https://a/\n",
	} {
		if all, err := read(t, text); err == nil || !strings.Contains(err.Error(), "x.txt:") {
			t.Errorf("%s: %v, %v", name, all, err)
		}
	}
}
