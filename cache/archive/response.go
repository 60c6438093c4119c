package archive

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Version of the format. A reader refuses an archive of another one.
const Version = 1

const (
	formatName = "larder archive"
	formatFile = "larder-archive.json"
	endFile    = "end.json"
	objectsDir = "objects/"
	bodyFile   = "body"
	jsonSuffix = ".json"
	sumsPrefix = "SHA256SUMS."

	// sumsEvery is how many files one list of digests covers.
	sumsEvery = 1024
	// maxJSON bounds a file of responses for a reader; a writer stays far below.
	maxJSON = 16 << 20
	// cutJSON is where a writer begins a new file of responses.
	cutJSON = 1 << 20
)

// Response is a stored response without its body: what a larder must know to serve
// it as if it had fetched it itself.
type Response struct {
	// URL is the target URI as the client of the fill spelled it.
	URL string `json:"url"`
	// Status code, such as 200.
	Status int `json:"status"`
	// Requested and Received are when the request was sent that last selected or
	// validated the response, and when its answer came (RFC 9111, section 4.2.3).
	Requested time.Time `json:"requested"`
	Received  time.Time `json:"received"`
	// ETag and LastModified are upstream's present validators, where they differ
	// from those in Header.
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
	// Header holds the end-to-end fields as received.
	Header http.Header `json:"header"`
	// Select maps the request fields that select this response among others of its
	// URL (RFC 9111, section 4.1) to their values; lower-case names. A field that
	// the request did not have is here with the value null. With other methods than GET
	// it has the method under ":method", and under ":content" the kind of the content
	// and the digest by which it is known.
	Select map[string]*string `json:"select,omitempty"`
	// Partition is that of the rule under which the response was fetched, "" for most;
	// a response is not for rules of another.
	Partition string `json:"partition,omitempty"`
}

// Check returns what makes r unfit to be served, or nil.
func (r *Response) Check() error {
	u, err := url.Parse(r.URL)
	switch {
	case err != nil:
		return fmt.Errorf("url: %w", err)
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.User != nil, u.Fragment != "":
		return fmt.Errorf("url %q is no absolute http or https URL", r.URL)
	case r.Status < 200 || r.Status > 599:
		return fmt.Errorf("status %d is not that of a response", r.Status)
	case r.Requested.IsZero() || r.Received.IsZero() || r.Received.Before(r.Requested):
		return errors.New("times of request and answer are missing or in the wrong order")
	}
	for name, values := range r.Header {
		if !httpguts.ValidHeaderFieldName(name) || http.CanonicalHeaderKey(name) != name {
			return fmt.Errorf("field name %q is not a canonical one", name)
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return fmt.Errorf("field %s has a value that HTTP does not allow", name)
			}
		}
	}
	for name, v := range r.Select {
		if name != ":method" && name != ":content" && !httpguts.ValidHeaderFieldName(name) || v != nil && !httpguts.ValidHeaderFieldValue(*v) {
			return fmt.Errorf("selecting field %q is none that HTTP allows", name)
		}
	}
	for _, v := range []string{r.ETag, r.LastModified} {
		if !httpguts.ValidHeaderFieldValue(v) {
			return errors.New("a validator has a value that HTTP does not allow")
		}
	}
	return nil
}

// Totals are the counts at the end of an archive.
type Totals struct {
	Bodies    int64 `json:"bodies"`
	Responses int64 `json:"responses"`
	Bytes     int64 `json:"bytes"`   // of all bodies
	Damaged   int64 `json:"damaged"` // bodies that were found damaged while written
}

// header is the content of the first file.
type header struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
}

// A DamagedError says that content does not match its digest.
type DamagedError struct {
	Name string // of the file in the archive
}

// Error names the file.
func (e *DamagedError) Error() string { return e.Name + " is damaged: it does not match its SHA-256" }
