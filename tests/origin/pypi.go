package origin

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"strings"

	"golang.org/x/crypto/blake2b"
)

const (
	simpleJSON = "application/vnd.pypi.simple.v1+json"
	simpleHTML = "application/vnd.pypi.simple.v1+html"
)

// pypiFile is a file of a project, as the index lists it.
type pypiFile struct {
	Filename     string            `json:"filename"`
	URL          string            `json:"url"`
	Hashes       map[string]string `json:"hashes"`
	CoreMetadata map[string]string `json:"core-metadata"`
	Yanked       bool              `json:"yanked"`
}

// PyPI serves the simple index of packages on one host, in JSON and in HTML on
// the same URL by Accept (PEP 691), and their wheels with PEP 658 metadata on
// another, under paths that are the BLAKE2b digest of the wheel.
func PyPI(s *Server, indexHost, filesHost string, packages ...Package) error {
	artifacts := make(files)
	projects := make(map[string][]pypiFile)
	for _, p := range packages {
		wheel, metadata, err := makeWheel(p)
		if err != nil {
			return fmt.Errorf("make wheel of %s: %w", p.Name, err)
		}
		digest := blake2b.Sum256(wheel)
		hexed := hex.EncodeToString(digest[:])
		name := wheelStem(p) + "-py3-none-any.whl"
		path := "/packages/" + hexed[:2] + "/" + hexed[2:4] + "/" + hexed[4:] + "/" + name
		header := http.Header{"Cache-Control": {"max-age=365000000, immutable, public"}}
		artifacts[path] = file{body: wheel, kind: "application/octet-stream", header: header}
		artifacts[path+".metadata"] = file{body: metadata, kind: "application/octet-stream", header: header}
		projects[p.Name] = append(projects[p.Name], pypiFile{
			Filename:     name,
			URL:          "https://" + filesHost + path,
			Hashes:       map[string]string{"sha256": hexSHA256(wheel)},
			CoreMetadata: map[string]string{"sha256": hexSHA256(metadata)},
		})
	}
	s.Handle(filesHost, artifacts)
	s.Handle(indexHost, pypiIndex(projects))
	return nil
}

// pypiIndex answers /simple/<project>/ in the type that Accept asks for.
type pypiIndex map[string][]pypiFile

func (x pypiIndex) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutPrefix(strings.TrimSuffix(r.URL.Path, "/"), "/simple/")
	listed, found := x[name]
	if !ok || !found {
		http.NotFound(w, r)
		return
	}
	index := file{
		header:   http.Header{"Cache-Control": {"max-age=600, public"}, "Vary": {"Accept"}},
		compress: true,
	}
	accept := r.Header.Get("Accept")
	switch {
	case strings.Contains(accept, simpleJSON):
		body, err := json.Marshal(map[string]any{
			"meta":  map[string]string{"api-version": "1.1"},
			"name":  name,
			"files": listed,
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		index.body, index.kind = body, simpleJSON
	case strings.Contains(accept, simpleHTML):
		index.body, index.kind = simplePage(name, listed), simpleHTML
	default:
		index.body, index.kind = simplePage(name, listed), "text/html; charset=UTF-8"
	}
	index.serve(w, r)
}

func simplePage(name string, listed []pypiFile) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html><head><meta name=\"pypi:repository-version\" content=\"1.1\">"+
		"<title>Links for %s</title></head><body>\n", html.EscapeString(name))
	for _, f := range listed {
		fmt.Fprintf(&b, "<a href=\"%s#sha256=%s\" data-core-metadata=\"sha256=%s\">%s</a><br/>\n",
			html.EscapeString(f.URL), f.Hashes["sha256"], f.CoreMetadata["sha256"], html.EscapeString(f.Filename))
	}
	b.WriteString("</body></html>\n")
	return []byte(b.String())
}

func wheelStem(p Package) string { return strings.ReplaceAll(p.Name, "-", "_") + "-" + p.Version }

// makeWheel builds a valid pure-Python wheel; it returns its METADATA too.
func makeWheel(p Package) (wheel, metadata []byte, err error) {
	module := strings.ReplaceAll(p.Name, "-", "_")
	info := wheelStem(p) + ".dist-info/"
	var head strings.Builder
	fmt.Fprintf(&head, "Metadata-Version: 2.1\nName: %s\nVersion: %s\n", p.Name, p.Version)
	for _, need := range p.Requires {
		fmt.Fprintf(&head, "Requires-Dist: %s\n", need)
	}
	metadata = []byte(head.String())
	members := []member{
		{module + "/__init__.py", fmt.Appendf(nil, "__version__ = %q\n", p.Version)},
		{module + "/ballast.bin", ballast(p.Name, p.Payload)},
		{info + "METADATA", metadata},
		{info + "WHEEL", []byte("Wheel-Version: 1.0\nGenerator: larder\nRoot-Is-Purelib: true\nTag: py3-none-any\n")},
	}
	var record strings.Builder
	for _, m := range members {
		sum := sha256.Sum256(m.body)
		fmt.Fprintf(&record, "%s,sha256=%s,%d\n", m.name, base64.RawURLEncoding.EncodeToString(sum[:]), len(m.body))
	}
	fmt.Fprintf(&record, "%sRECORD,,\n", info)
	wheel, err = zipped(append(members, member{info + "RECORD", []byte(record.String())}))
	return wheel, metadata, err
}

func hexSHA256(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}
