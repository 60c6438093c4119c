package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxJobs bounds how many fetches one request to warm may run at once.
	maxJobs     = 64
	defaultJobs = 8
	// maxItem bounds one line of a request to warm.
	maxItem = 64 << 10
)

// storeHandler answers below /api/v1/store.
type storeHandler struct {
	api       StoreAPI
	verifying atomic.Bool
}

// routes adds the store API to mux.
func (s *storeHandler) routes(mux *http.ServeMux, token string) {
	handle := func(pattern string, there bool, h http.HandlerFunc) {
		if there {
			mux.Handle(pattern, withToken(token, h))
		}
	}
	handle("GET /api/v1/store/objects", s.api.Objects != nil, s.list)
	handle("DELETE /api/v1/store/objects", s.api.Objects != nil, s.remove)
	handle("GET /api/v1/store/object", s.api.Objects != nil, s.find)
	handle("POST /api/v1/store/verify", s.api.Scrubber != nil, s.verify)
	handle("GET /api/v1/store/export", s.api.Carrier != nil, s.export)
	handle("POST /api/v1/store/import", s.api.Carrier != nil, s.importArchive)
	handle("POST /api/v1/store/warm", s.api.Warmer != nil, s.warm)
	handle("POST /api/v1/store/fetch", s.api.Warmer != nil, s.fetch)
}

// withToken lets in who knows the token. Both sides are hashed, so that neither
// content nor length shows in the time that the comparison takes.
func withToken(token string, next http.Handler) http.Handler {
	if token == "" {
		return next
	}
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		got := sha256.Sum256([]byte(given))
		if !ok || subtle.ConstantTimeCompare(got[:], want[:]) == 0 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="larder"`)
			refuse(w, http.StatusUnauthorized, errors.New("this over TCP needs the token of this larder"),
				"it is in run/admin.token of the state folder")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse answers with an error as JSON.
func refuse(w http.ResponseWriter, status int, err error, hint string) {
	writeJSON(w, status, struct {
		Error ErrorText `json:"error"`
	}{errorText(err, hint)})
}

func errorText(err error, hint string) ErrorText {
	var helpful interface{ Hint() string }
	if hint == "" && errors.As(err, &helpful) {
		hint = helpful.Hint()
	}
	return ErrorText{Text: err.Error(), Hint: hint}
}

// matchOf reads the parameter match; without it everything matches, unless it is
// required.
func matchOf(w http.ResponseWriter, r *http.Request, required bool) (func(string) bool, bool) {
	pattern := r.URL.Query().Get("match")
	if pattern == "" && !required {
		return func(string) bool { return true }, true
	}
	g, err := ParseGlob(pattern)
	if err != nil {
		refuse(w, http.StatusBadRequest, err, "")
		return nil, false
	}
	return g.Match, true
}

func (s *storeHandler) list(w http.ResponseWriter, r *http.Request) {
	match, ok := matchOf(w, r, false)
	if !ok {
		return
	}
	pw := newPatientWriter(w)
	var lines *lineWriter
	for o, err := range s.api.Objects.List(r.Context(), match) {
		if err != nil && lines == nil {
			refuse(pw, http.StatusInternalServerError, err, "")
			return
		}
		if lines == nil {
			lines = newLineWriter(pw)
		}
		if err == nil {
			err = lines.write(o)
		}
		if err != nil {
			// The status is out: only a cut connection tells a partial list from a
			// whole one.
			panic(http.ErrAbortHandler)
		}
	}
	if lines == nil {
		newLineWriter(pw) // an empty list
	}
}

func (s *storeHandler) find(w http.ResponseWriter, r *http.Request) {
	raw := r.URL.Query().Get("url")
	if _, err := absoluteURL(raw); err != nil {
		refuse(w, http.StatusBadRequest, err, "")
		return
	}
	// A URL with variants takes a scan.
	pw := newPatientWriter(w)
	_ = pw.control.SetWriteDeadline(time.Now().Add(patience))
	found, err := s.api.Objects.Find(r.Context(), raw)
	if err != nil {
		refuse(pw, http.StatusInternalServerError, err, "")
		return
	}
	if len(found) == 0 {
		refuse(pw, http.StatusNotFound, fmt.Errorf("nothing is stored under %s", raw), "")
		return
	}
	writeJSON(pw, http.StatusOK, found)
}

func absoluteURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("%q is no absolute http or https URL", raw)
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

func (s *storeHandler) remove(w http.ResponseWriter, r *http.Request) {
	match, ok := matchOf(w, r, true)
	if !ok {
		return
	}
	lines := newLineWriter(newPatientWriter(w))
	rep := newReporter(func(p Removal) { _ = lines.write(Event[Removal, struct{}]{Progress: &p}) })
	done, err := s.api.Objects.Remove(r.Context(), match, rep.report)
	finish[Removal, struct{}](lines, done, err)
}

// finish writes the last line of an answer that takes time.
func finish[P, R any](lines *lineWriter, done P, err error) {
	e := Event[P, R]{Done: &done}
	if err != nil {
		text := errorText(err, "")
		e = Event[P, R]{Error: &text}
	}
	if lines.write(e) != nil {
		panic(http.ErrAbortHandler)
	}
}

func (s *storeHandler) verify(w http.ResponseWriter, r *http.Request) {
	rate, err := strconv.ParseInt(r.URL.Query().Get("rate"), 10, 64)
	if r.URL.Query().Get("rate") == "" {
		rate, err = 0, nil
	}
	if err != nil || rate < 0 {
		refuse(w, http.StatusBadRequest, errors.New("rate is a number of bytes per second"), "")
		return
	}
	if !s.verifying.CompareAndSwap(false, true) {
		refuse(w, http.StatusConflict, errBusy, "wait until it is over")
		return
	}
	defer s.verifying.Store(false)
	lines := newLineWriter(newPatientWriter(w))
	rep := newReporter(func(p Scrub) { _ = lines.write(Event[Scrub, struct{}]{Progress: &p}) })
	done, err := s.api.Scrubber.Verify(r.Context(), rate, rep.report)
	finish[Scrub, struct{}](lines, done, err)
}

func (s *storeHandler) export(w http.ResponseWriter, r *http.Request) {
	match, ok := matchOf(w, r, false)
	if !ok {
		return
	}
	pw := newPatientWriter(w)
	pw.Header().Set("Content-Type", "application/x-tar")
	pw.Header().Set("Content-Disposition", `attachment; filename="larder-archive.tar"`)
	if err := s.api.Carrier.Export(r.Context(), match, pw); err != nil {
		// An archive without its end is refused by who reads it, too.
		panic(http.ErrAbortHandler)
	}
}

func (s *storeHandler) importArchive(w http.ResponseWriter, r *http.Request) {
	lines, body := duplex(w, r)
	rep := newReporter(func(p Imported) { _ = lines.write(Event[Imported, Refusal]{Progress: &p}) })
	done, err := s.api.Carrier.Import(r.Context(), body, rep.report,
		func(no Refusal) { _ = lines.write(Event[Imported, Refusal]{Item: &no}) })
	finish[Imported, Refusal](lines, done, err)
}

// duplex begins an answer while the request's body is still being read.
func duplex(w http.ResponseWriter, r *http.Request) (*lineWriter, io.Reader) {
	pw := newPatientWriter(w)
	_ = pw.control.EnableFullDuplex() // HTTP/2 is so by nature, and says that it is not supported
	lines := newLineWriter(pw)
	_ = pw.control.Flush() // a client that is gone is noticed at the next write
	return lines, &patientReader{r: r.Body, control: pw.control}
}

// Warmed counts what a request to warm has done so far.
type Warmed struct {
	Items  int64 `json:"items"`
	Hits   int64 `json:"hits"`
	Stored int64 `json:"stored"`
	Failed int64 `json:"failed"`
	Bytes  int64 `json:"bytes"`
}

func (w *Warmed) add(r WarmResult) {
	w.Items++
	w.Bytes += r.Bytes
	switch {
	case r.Error != "":
		w.Failed++
	case r.Hit:
		w.Hits++
	case r.Stored:
		w.Stored++
	}
}

func (s *storeHandler) warm(w http.ResponseWriter, r *http.Request) {
	jobs := defaultJobs
	if v := r.URL.Query().Get("jobs"); v != "" {
		var err error
		if jobs, err = strconv.Atoi(v); err != nil || jobs < 1 || jobs > maxJobs {
			refuse(w, http.StatusBadRequest, fmt.Errorf("jobs is a number from 1 to %d", maxJobs), "")
			return
		}
	}
	lines, body := duplex(w, r)
	var mu sync.Mutex
	var done Warmed
	err := eachItem(r.Context(), body, jobs, func(ctx context.Context, it WarmItem) {
		res := s.api.Warmer.Warm(ctx, it)
		mu.Lock()
		defer mu.Unlock()
		done.add(res)
		_ = lines.write(Event[Warmed, WarmResult]{Item: &res}) // a client that is gone ends ctx
	})
	finish[Warmed, WarmResult](lines, done, err)
}

// eachItem calls do for each line of body, in jobs goroutines, and waits for them.
func eachItem(ctx context.Context, body io.Reader, jobs int, do func(context.Context, WarmItem)) error {
	items := make(chan WarmItem)
	var workers sync.WaitGroup
	for range jobs {
		workers.Go(func() { // ends when items is closed
			for it := range items {
				if ctx.Err() == nil {
					do(ctx, it)
				}
			}
		})
	}
	defer workers.Wait()
	defer close(items)
	scanner := newItemScanner(body)
	for scanner.Scan() {
		if len(scanner.Bytes()) == 0 {
			continue
		}
		var it WarmItem
		if err := json.Unmarshal(scanner.Bytes(), &it); err != nil {
			return fmt.Errorf("read what to fetch: %w", err)
		}
		select {
		case items <- it:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("read what to fetch: %w", err)
	}
	return nil
}

// fetch answers with what a client of the proxy would get.
func (s *storeHandler) fetch(w http.ResponseWriter, r *http.Request) {
	var it WarmItem
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxItem)).Decode(&it)
	var u *url.URL
	if err == nil {
		u, err = absoluteURL(it.URL)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err, "")
		return
	}
	req := (&http.Request{
		Method: http.MethodGet, URL: u, Host: u.Host, Header: make(http.Header), Body: http.NoBody,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: r.RemoteAddr,
	}).WithContext(r.Context())
	for name, values := range it.Header {
		for _, v := range values {
			req.Header.Add(name, v)
		}
	}
	s.api.Warmer.Fetch(newPatientWriter(w), req)
}
