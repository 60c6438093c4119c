package admin

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"time"
)

// StoreAPI is what the store API needs of larder. A nil field makes its part of the
// API answer 404.
type StoreAPI struct {
	Objects  Objects
	Scrubber Scrubber
	Carrier  Carrier
	Warmer   Warmer
}

// Objects looks at stored responses and removes them. Its methods are called
// concurrently; match is called by one goroutine at a time.
type Objects interface {
	// List yields the stored responses whose URL match accepts, in no particular
	// order, without their Header, and without counting as use.
	List(ctx context.Context, match func(url string) bool) iter.Seq2[Object, error]
	// Find returns all that is stored under a URL, with Header; none is no error.
	Find(ctx context.Context, url string) ([]Object, error)
	// Remove removes the stored responses whose URL match accepts, and keeps fills
	// under way for such URLs from being stored. It calls progress now and then.
	Remove(ctx context.Context, match func(url string) bool, progress func(Removal)) (Removal, error)
}

// Object is a stored response.
type Object struct {
	URL    string `json:"url"`
	Status int    `json:"status"`
	// Size of the body in bytes, and its digest in hexadecimal.
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// Verified lists digests that the body was found to have, each as algorithm:value
	// (source), where source is url, index, header or client.
	Verified []string `json:"verified,omitempty"`
	// Stored is when it was fetched or last validated.
	Stored time.Time `json:"stored"`
	// Rule is the one that decides about the URL now, "" when none does that stores;
	// Fresh is whether the response would be served without asking upstream.
	Rule  string `json:"rule,omitempty"`
	Fresh bool   `json:"fresh"`
	// TTL is the remaining freshness lifetime in seconds, negative when stale;
	// absent when there is no end.
	TTL *int64 `json:"ttl,omitempty"`
	// Uses counts how often it was looked up since the server has started or the
	// response was stored, whichever was later.
	Uses uint64 `json:"uses"`
	// Select holds the request fields that select it among others of its URL, with
	// their normalised values; null where the request did not have the field.
	Select map[string]*string `json:"select,omitempty"`
	// Header holds the stored fields; only where one URL was asked for.
	Header http.Header `json:"header,omitempty"`
}

// Removal counts what a removal has done so far.
type Removal struct {
	Scanned int64 `json:"scanned"`
	Removed int64 `json:"removed"`
	Bytes   int64 `json:"bytes"` // of the removed bodies, each URL counted
}

// Scrubber reads everything that is stored and compares it with its checksums.
type Scrubber interface {
	// Verify reads at most rate bytes per second (0: as fast as the disk goes), drops
	// what is damaged, and calls progress now and then and after each damaged object.
	Verify(ctx context.Context, rate int64, progress func(Scrub)) (Scrub, error)
}

// Scrub counts what a verification has done so far.
type Scrub struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"` // read; content that several URLs share is read once
	Damaged int64 `json:"damaged"`
	// Total is how many objects there were at the start.
	Total int64 `json:"total"`
}

// Carrier takes stored responses from one larder to another.
type Carrier interface {
	// Export writes an archive of the responses whose URL match accepts. It returns
	// when w fails.
	Export(ctx context.Context, match func(url string) bool, w io.Writer) error
	// Import stores the responses of an archive, each after its digest was checked.
	// Those that it refuses are given to refused, one at a time; they are no error.
	Import(ctx context.Context, r io.Reader, progress func(Imported), refused func(Refusal)) (Imported, error)
}

// Imported counts what an import has done so far.
type Imported struct {
	Responses int64 `json:"responses"`
	// Present were left out, for one at least as recent was stored already.
	Present int64 `json:"present"`
	Refused int64 `json:"refused"`
	Bodies  int64 `json:"bodies"`
	Bytes   int64 `json:"bytes"` // of all bodies
}

// Refusal is a response of an archive that was not stored.
type Refusal struct {
	// URL of the response, or the file's name in the archive where it has none.
	URL    string `json:"url"`
	Reason string `json:"reason"`
}

// Warmer fetches through the cache.
type Warmer interface {
	// Warm fetches one item and reads it to its end. It is called concurrently, and
	// tells in the result what went wrong.
	Warm(ctx context.Context, it WarmItem) WarmResult
	// Fetch answers a request, whose URL is the absolute target URI, as the proxy
	// would answer a client.
	Fetch(w http.ResponseWriter, r *http.Request)
}

// WarmItem is a URL to be fetched.
type WarmItem struct {
	URL string `json:"url"`
	// Header holds request fields that select the response.
	Header http.Header `json:"header,omitempty"`
	// Digest that the body must have, as algorithm:value; "": any.
	Digest string `json:"digest,omitempty"`
}

// WarmResult is what became of a WarmItem.
type WarmResult struct {
	URL    string `json:"url"`
	Status int    `json:"status,omitempty"`
	Bytes  int64  `json:"bytes"`
	// Hit: it was stored already. Stored: it is now.
	Hit    bool   `json:"hit"`
	Stored bool   `json:"stored"`
	Cache  string `json:"cache_status,omitempty"`
	Error  string `json:"error,omitempty"`
}

// errBusy refuses what can only run once at a time.
var errBusy = errors.New("another verification is running")
