package kit

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestFetchRootsAsksTheKitAlone(t *testing.T) {
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	k, roots := newKit(t, Options{})
	for name, start := range map[string]func(http.Handler) *httptest.Server{"plain": httptest.NewServer, "TLS": httptest.NewTLSServer} {
		s := start(k)
		got, err := FetchRoots(t.Context(), s.URL+"/")
		if err != nil || !bytes.Equal(got, roots) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
		s.Close()
	}
	for _, base := range []string{"", "larder.test:3128", "ftp://larder.test", "http://u:p@larder.test", "http://larder.test/x", "http://larder.test?x"} {
		if _, err := FetchRoots(t.Context(), base); err == nil {
			t.Errorf("%q is asked", base)
		}
	}
}

func TestFetchRootsTakesNoOtherAnswer(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"a failure":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
	} {
		s := httptest.NewServer(answer)
		_, err := FetchRoots(t.Context(), s.URL)
		if _, ok := errors.AsType[*StatusError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
		s.Close()
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, maxRoots+1)) }))
	defer s.Close()
	if _, err := FetchRoots(t.Context(), s.URL); err == nil {
		t.Error("more than roots can be is taken")
	}
}
