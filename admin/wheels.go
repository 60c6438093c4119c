package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// WheelAPI is what the API of wheels needs of larder. Methods may be called
// concurrently.
type WheelAPI interface {
	// List returns all wheels.
	List() []Wheel
	// Add takes a wheel in; source may be nil. content is read to its end.
	Add(file string, source *WheelSource, content io.Reader) (Wheel, error)
	// Remove removes those whose file name a pattern of path.Match matches, or that
	// have this SHA-256, and returns them.
	Remove(match string) ([]Wheel, error)
	// Wanted returns the source distributions that were fetched, most first, n at most.
	Wanted(n int) []WantedSource
}

// Wheel is a wheel of the operator's own.
type Wheel struct {
	File           string       `json:"file"`
	Project        string       `json:"project"`
	Version        string       `json:"version"`
	SHA256         string       `json:"sha256"`
	Size           int64        `json:"size"`
	RequiresPython string       `json:"requires_python,omitempty"`
	Added          time.Time    `json:"added"`
	Source         *WheelSource `json:"source,omitempty"`
}

// WheelSource is the source distribution that a wheel was built of, and with what.
type WheelSource struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	URL    string `json:"url,omitempty"`
	Python string `json:"python,omitempty"`
	Pip    string `json:"pip,omitempty"`
}

// WantedSource is a source distribution that was fetched.
type WantedSource struct {
	Project string    `json:"project"`
	Version string    `json:"version"`
	File    string    `json:"file"`
	URL     string    `json:"url"`
	Count   int64     `json:"count"`
	Bytes   int64     `json:"bytes"`
	Last    time.Time `json:"last"`
}

// wheelHandler answers below /api/v1/wheels.
type wheelHandler struct{ api WheelAPI }

func (h *wheelHandler) routes(mux *http.ServeMux, token string) {
	if h.api == nil {
		return
	}
	for pattern, f := range map[string]http.HandlerFunc{
		"GET /api/v1/wheels": h.list, "POST /api/v1/wheels": h.add,
		"DELETE /api/v1/wheels": h.remove, "GET /api/v1/wheels/wanted": h.wanted,
	} {
		mux.Handle(pattern, withToken(token, f))
	}
}

func (h *wheelHandler) list(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, notNil(h.api.List()))
}

// notNil has JSON say [] and not null.
func notNil[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

func (h *wheelHandler) add(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var source *WheelSource
	if text := q.Get("source"); text != "" {
		if err := json.Unmarshal([]byte(text), &source); err != nil {
			refuse(w, http.StatusBadRequest, fmt.Errorf("read source: %w", err), "")
			return
		}
	}
	pw := newPatientWriter(w)
	added, err := h.api.Add(q.Get("file"), source, &patientReader{r: r.Body, control: pw.control})
	if err != nil {
		refuse(pw, http.StatusUnprocessableEntity, err, "")
		return
	}
	writeJSON(pw, http.StatusOK, added)
}

func (h *wheelHandler) remove(w http.ResponseWriter, r *http.Request) {
	match := r.URL.Query().Get("match")
	if match == "" {
		refuse(w, http.StatusBadRequest, errors.New("match is missing"), "match=* is all")
		return
	}
	removed, err := h.api.Remove(match)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err, "")
		return
	}
	writeJSON(w, http.StatusOK, notNil(removed))
}

// maxWanted bounds an answer.
const maxWanted = 4096

func (h *wheelHandler) wanted(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, notNil(h.api.Wanted(maxWanted)))
}

// Wheels lists the wheels of a larder.
func (c *Client) Wheels(ctx context.Context) ([]Wheel, error) {
	var all []Wheel
	return all, c.object(ctx, "/api/v1/wheels", nil, &all)
}

// Wanted lists the source distributions that were fetched, most first.
func (c *Client) Wanted(ctx context.Context) ([]WantedSource, error) {
	var all []WantedSource
	return all, c.object(ctx, "/api/v1/wheels/wanted", nil, &all)
}

// AddWheel gives a larder a wheel; source may be nil.
func (c *Client) AddWheel(ctx context.Context, file string, source *WheelSource, content io.Reader) (Wheel, error) {
	q := url.Values{"file": {file}}
	if source != nil {
		text, err := json.Marshal(source)
		if err != nil {
			return Wheel{}, err
		}
		q.Set("source", string(text))
	}
	body, err := c.call(ctx, http.MethodPost, "/api/v1/wheels", q, content)
	if err != nil {
		return Wheel{}, err
	}
	defer body.Close()
	var added Wheel
	if err := json.NewDecoder(body).Decode(&added); err != nil {
		return added, cutShort(ctx, err)
	}
	return added, nil
}

// RemoveWheels removes the wheels that match, as WheelAPI.Remove does.
func (c *Client) RemoveWheels(ctx context.Context, match string) ([]Wheel, error) {
	body, err := c.call(ctx, http.MethodDelete, "/api/v1/wheels", query("match", match), nil)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var removed []Wheel
	if err := json.NewDecoder(body).Decode(&removed); err != nil {
		return nil, cutShort(ctx, err)
	}
	return removed, nil
}
