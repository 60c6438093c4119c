package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"time"
)

// Ledger is the record of the digests under which URLs were first seen. Its methods are
// called concurrently. URLs are as clients ask for them; fs.ErrNotExist says that there
// is no entry.
type Ledger interface {
	// Events returns what came under URLs that had other bytes before, and what was
	// accepted: at most limit, the newest first.
	Events(limit int) ([]LedgerEntry, error)
	// History returns the entries of a URL, of all its variants, the oldest first.
	History(url string) ([]LedgerEntry, error)
	// Accept puts a digest in force: that of the latest change, or if sha256 is not "" that
	// one. With variant nil, of the only variant that has changed.
	Accept(url string, variant *string, sha256 string) (LedgerEntry, error)
	// Export writes the entries from number from on as lines of JSON, and a line with a
	// signed checkpoint.
	Export(w io.Writer, from int64) error
}

// LedgerEntry is an entry of the ledger. The names are those of its export.
type LedgerEntry struct {
	N    int64     `json:"n"`
	Time time.Time `json:"time"`
	// Kind is first, changed (other bytes came) or accepted (an operator has let them in).
	Kind    string `json:"kind"`
	URL     string `json:"url"`
	Variant string `json:"variant,omitempty"`
	SHA256  string `json:"sha256"`
	Size    int64  `json:"size"`
	// Was is the digest that was in force before.
	Was     string `json:"was,omitempty"`
	Refused bool   `json:"refused,omitempty"`
}

// LedgerAcceptance is what POST /api/v1/ledger/accept takes.
type LedgerAcceptance struct {
	URL     string  `json:"url"`
	Variant *string `json:"variant,omitempty"`
	SHA256  string  `json:"sha256,omitempty"`
}

type ledgerHandler struct{ ledger Ledger }

// maxEvents bounds one answer.
const (
	defaultEvents = 100
	maxEvents     = 10_000
)

func (h *ledgerHandler) routes(mux *http.ServeMux, token string) {
	if h.ledger == nil {
		return
	}
	for pattern, f := range map[string]http.HandlerFunc{
		"GET /api/v1/ledger/events":  h.events,
		"GET /api/v1/ledger/entries": h.entries,
		"GET /api/v1/ledger/export":  h.export,
		"POST /api/v1/ledger/accept": h.accept,
	} {
		mux.Handle(pattern, withToken(token, f))
	}
}

func (h *ledgerHandler) events(w http.ResponseWriter, r *http.Request) {
	limit := defaultEvents
	if v := r.URL.Query().Get("limit"); v != "" {
		var err error
		if limit, err = strconv.Atoi(v); err != nil || limit < 1 || limit > maxEvents {
			refuse(w, http.StatusBadRequest, fmt.Errorf("limit is a number from 1 to %d", maxEvents), "")
			return
		}
	}
	entries, err := h.ledger.Events(limit)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err, "")
		return
	}
	writeJSON(w, http.StatusOK, notNil(entries))
}

func (h *ledgerHandler) entries(w http.ResponseWriter, r *http.Request) {
	raw := r.URL.Query().Get("url")
	if _, err := absoluteURL(raw); err != nil {
		refuse(w, http.StatusBadRequest, err, "")
		return
	}
	entries, err := h.ledger.History(raw)
	switch {
	case err != nil:
		refuse(w, http.StatusInternalServerError, err, "")
	case len(entries) == 0:
		refuse(w, http.StatusNotFound, fmt.Errorf("the ledger has no entry of %s", raw), "")
	default:
		writeJSON(w, http.StatusOK, entries)
	}
}

func (h *ledgerHandler) export(w http.ResponseWriter, r *http.Request) {
	from := int64(0)
	if v := r.URL.Query().Get("from"); v != "" {
		var err error
		if from, err = strconv.ParseInt(v, 10, 64); err != nil || from < 0 {
			refuse(w, http.StatusBadRequest, errors.New("from is the number of an entry"), "")
			return
		}
	}
	pw := newPatientWriter(w)
	pw.Header().Set("Content-Type", "application/x-ndjson")
	if err := h.ledger.Export(pw, from); err != nil {
		panic(http.ErrAbortHandler) // without its last line it is not whole, and is refused
	}
}

func (h *ledgerHandler) accept(w http.ResponseWriter, r *http.Request) {
	var a LedgerAcceptance
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxItem)).Decode(&a)
	if err == nil {
		_, err = absoluteURL(a.URL)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err, "")
		return
	}
	e, err := h.ledger.Accept(a.URL, a.Variant, a.SHA256)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		refuse(w, http.StatusNotFound, fmt.Errorf("the ledger has no entry of %s", a.URL), "")
	case err != nil:
		refuse(w, http.StatusBadRequest, err, "")
	default:
		writeJSON(w, http.StatusOK, e)
	}
}

// AcceptLedger puts other bytes of a URL in force.
func (c *Client) AcceptLedger(ctx context.Context, a LedgerAcceptance) (LedgerEntry, error) {
	text, err := json.Marshal(a)
	if err != nil {
		return LedgerEntry{}, err
	}
	body, err := c.call(ctx, http.MethodPost, "/api/v1/ledger/accept", nil, bytes.NewReader(text))
	if err != nil {
		return LedgerEntry{}, err
	}
	defer body.Close()
	var e LedgerEntry
	if err := json.NewDecoder(body).Decode(&e); err != nil {
		return LedgerEntry{}, cutShort(ctx, err)
	}
	return e, nil
}
