package pypi

import (
	"mime"
	"strconv"
	"strings"
)

// Media types of the index (PEP 691).
const (
	MediaJSON = "application/vnd.pypi.simple.v1+json"
	MediaHTML = "application/vnd.pypi.simple.v1+html"
	MediaText = "text/html" // HTML for clients of before PEP 691
)

// aliases that a client may accept in place of a version.
var aliases = map[string]string{
	"application/vnd.pypi.simple.latest+json": MediaJSON,
	"application/vnd.pypi.simple.latest+html": MediaHTML,
}

// Form is a form of an index page.
type Form int

// The forms of a page.
const (
	NoForm Form = iota // neither: an error page, or one of a format that is not known
	JSON
	HTML
)

// FormOf tells the form from a Content-Type.
func FormOf(contentType string) Form {
	media, _, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil:
		return NoForm
	case media == MediaJSON:
		return JSON
	case media == MediaHTML, media == MediaText:
		return HTML
	}
	return NoForm
}

// Negotiate returns the media type of the index that a client likes best (RFC 9110,
// Section 12.5.1). Of types that it likes alike, JSON is taken first; without Accept,
// text/html is, which all clients understand. It is "" if the client takes none.
func Negotiate(accept []string) string {
	header := strings.Join(accept, ",")
	if strings.TrimSpace(header) == "" {
		return MediaText
	}
	best, most := "", 0.0
	for _, media := range [...]string{MediaJSON, MediaHTML, MediaText} {
		if q := quality(header, media); q > most {
			best, most = media, q
		}
	}
	if best != "" && strings.TrimSpace(header) == "*/*" {
		return MediaText // what the index sends those who do not care
	}
	return best
}

// quality is what the most specific range that matches says.
func quality(header, media string) float64 {
	kind, _, _ := strings.Cut(media, "/")
	q, specific := 0.0, -1
	for part := range strings.SplitSeq(header, ",") {
		name, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		if a, ok := aliases[name]; ok {
			name = a
		}
		s := -1
		switch name {
		case media:
			s = 2
		case kind + "/*":
			s = 1
		case "*/*":
			s = 0
		}
		if s <= specific {
			continue
		}
		specific, q = s, 1
		if text, ok := params["q"]; ok {
			q, err = strconv.ParseFloat(text, 64)
			if err != nil || q < 0 || q > 1 {
				q = 0
			}
		}
	}
	return q
}
