package curation

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"larder/policy"
	"larder/registry/npm"
	"larder/registry/pypi"
)

// MaxSource is the most of an index that is taken, in bytes, as it comes and decoded.
const MaxSource = 64 << 20

// ErrTooLarge is an index of more than MaxSource.
var ErrTooLarge = fmt.Errorf("the index has more than %d MiB", MaxSource>>20)

// Source is a response of upstream's with status 200.
type Source struct {
	// URL is where it is from.
	URL *url.URL
	// Header is the response's.
	Header http.Header
	// Body is as it came, in its content coding, and SHA256 its digest.
	Body   []byte
	SHA256 [32]byte
}

// Fetch says what has to be asked of upstream to render what is asked for, by URL and
// the value of Accept.
func (c *Curator) Fetch(a *Ask) (target *url.URL, accept string) {
	switch {
	case a.Registry == policy.PyPI && a.Kind == Release:
		return a.target, "application/json"
	case a.Registry == policy.PyPI:
		// The order of pip, which all indexes know.
		return a.target, pypi.MediaJSON + ", " + pypi.MediaHTML + "; q=0.1, " + pypi.MediaText + "; q=0.01"
	case a.Kind == Release || a.Kind == Tags:
		return a.IndexURL(a.Name, a.target.Scheme, a.target.Host), npm.MediaFull
	case a.want.short && !c.policy.AgeMatters(a.Registry, a.Name):
		return a.target, npm.MediaAbbreviated + "; q=1.0, " + npm.MediaFull + "; q=0.8, */*"
	}
	return a.target, npm.MediaFull
}

// AcceptEncoding is what has to be asked of upstream: the one coding besides none that
// a Source may have.
const AcceptEncoding = "gzip"

// Takes reports whether a response of status 200 and this Content-Type can be rendered.
func (a *Ask) Takes(contentType string) bool {
	if a.Registry == policy.PyPI && a.Kind != Release {
		return pypi.FormOf(contentType) != pypi.NoForm
	}
	media, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	media = strings.TrimSpace(media)
	return media == npm.MediaFull || strings.HasSuffix(media, "+json")
}

// decoded returns the body without its content coding.
func (s *Source) decoded() ([]byte, error) {
	switch coding := strings.ToLower(strings.TrimSpace(s.Header.Get("Content-Encoding"))); coding {
	case "", "identity":
		if len(s.Body) > MaxSource {
			return nil, ErrTooLarge
		}
		return s.Body, nil
	case "gzip", "x-gzip":
		return gunzip(s.Body)
	default:
		return nil, fmt.Errorf("the index comes in the content coding %q, for which was not asked", coding)
	}
}

func gunzip(b []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("decode the index: %w", err)
	}
	// Indexes compress to a tenth or so.
	out := bytes.NewBuffer(make([]byte, 0, min(8*len(b)+bytes.MinRead, MaxSource)))
	n, err := io.Copy(out, io.LimitReader(z, MaxSource+1))
	if err == nil && n > MaxSource {
		err = ErrTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("decode the index: %w", err)
	}
	return out.Bytes(), nil
}

// deflate returns b in the coding gzip, nil where that is not worth its while.
func deflate(b []byte) []byte {
	if len(b) < 1<<10 {
		return nil
	}
	var out bytes.Buffer
	out.Grow(len(b) / 6)
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil
	}
	_, err = z.Write(b)
	if err = errors.Join(err, z.Close()); err != nil {
		return nil
	}
	return out.Bytes()
}
