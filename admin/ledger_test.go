package admin

import (
	"errors"
	"io"
	"io/fs"
	"net/http/httptest"
	"strings"
	"testing"
)

// oneEntry is a ledger with an entry of one URL.
type oneEntry struct{ accepted *LedgerAcceptance }

func (oneEntry) Events(limit int) ([]LedgerEntry, error) {
	if limit == 1 {
		return []LedgerEntry{{N: 7, Kind: "changed"}}, nil
	}
	return nil, nil
}

func (oneEntry) History(url string) ([]LedgerEntry, error) {
	if url != "https://a.test/x" {
		return nil, nil
	}
	return []LedgerEntry{{N: 3, Kind: "first", URL: url}}, nil
}

func (o oneEntry) Accept(url string, variant *string, sha256 string) (LedgerEntry, error) {
	if url != "https://a.test/x" {
		return LedgerEntry{}, fs.ErrNotExist
	}
	if sha256 == "bad" {
		return LedgerEntry{}, errors.New("no digest")
	}
	*o.accepted = LedgerAcceptance{URL: url, Variant: variant, SHA256: sha256}
	return LedgerEntry{N: 4, Kind: "accepted", URL: url}, nil
}

func (oneEntry) Export(w io.Writer, from int64) error {
	if from > 1 {
		return errors.New("damaged")
	}
	_, err := io.WriteString(w, "{}\n")
	return err
}

func TestLedgerAPI(t *testing.T) {
	var accepted LedgerAcceptance
	h := New(Options{Ledger: oneEntry{&accepted}, Token: "secret-secret-secret"})
	with := []string{"Authorization", "Bearer secret-secret-secret"}
	for _, c := range []struct {
		path, want string
		code       int
	}{
		{"/api/v1/ledger/events", "[]", 200},
		{"/api/v1/ledger/events?limit=1", `"n": 7`, 200},
		{"/api/v1/ledger/events?limit=0", "limit is a number", 400},
		{"/api/v1/ledger/entries?url=https://a.test/x", `"n": 3`, 200},
		{"/api/v1/ledger/entries?url=https://a.test/y", "no entry", 404},
		{"/api/v1/ledger/entries?url=x", "no absolute", 400},
		{"/api/v1/ledger/export", "{}", 200},
		{"/api/v1/ledger/export?from=x", "number of an entry", 400},
	} {
		got := ask(t, h, "GET", c.path, with...)
		if got.Code != c.code || !strings.Contains(got.Body.String(), c.want) {
			t.Errorf("%s: %d %s, want %d with %q", c.path, got.Code, got.Body, c.code, c.want)
		}
		if got := ask(t, h, "GET", c.path); got.Code != 401 {
			t.Errorf("%s without the token: %d", c.path, got.Code)
		}
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("an export that fails ends as if it were whole")
			}
		}()
		ask(t, h, "GET", "/api/v1/ledger/export?from=2", with...)
	}()
	if got := ask(t, New(Options{}), "GET", "/api/v1/ledger/events"); got.Code != 404 {
		t.Errorf("without a ledger: %d", got.Code)
	}
	for body, code := range map[string]int{
		`{"url":"https://a.test/x","variant":"v","sha256":"ab"}`: 200,
		`{"url":"https://a.test/x","sha256":"bad"}`:              400,
		`{"url":"https://a.test/y"}`:                             404,
		`{"url":"y"}`:                                            400,
		`{`:                                                      400,
	} {
		r := httptest.NewRequest("POST", "http://127.0.0.1:3129/api/v1/ledger/accept", strings.NewReader(body))
		r.Header.Set(with[0], with[1])
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != code {
			t.Errorf("accept %s: %d %s, want %d", body, w.Code, w.Body, code)
		}
	}
	if accepted.URL != "https://a.test/x" || accepted.Variant == nil || *accepted.Variant != "v" || accepted.SHA256 != "ab" {
		t.Errorf("accepted %+v", accepted)
	}
}
