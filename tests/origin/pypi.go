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
	CoreMetadata map[string]string `json:"core-metadata,omitempty"`
	Yanked       any               `json:"yanked"` // false, or why
	UploadTime   string            `json:"upload-time,omitempty"`
}

// PyPI serves the simple index of packages on one host, in JSON and in HTML on
// the same URL by Accept (PEP 691), and their wheels with PEP 658 metadata on
// another, under paths that are the BLAKE2b digest of the wheel.
func PyPI(s *Server, indexHost, filesHost string, packages ...Package) error {
	artifacts := make(files)
	projects := make(map[string][]pypiFile)
	for _, p := range packages {
		name := wheelStem(p) + "-py3-none-any.whl"
		wheel, metadata, err := makeWheel(p)
		if p.Sdist {
			name, metadata = wheelStem(p)+".tar.gz", nil
			wheel, err = makeSdist(p)
		}
		if err != nil {
			return fmt.Errorf("make wheel of %s: %w", p.Name, err)
		}
		digest := blake2b.Sum256(wheel)
		hexed := hex.EncodeToString(digest[:])
		path := "/packages/" + hexed[:2] + "/" + hexed[2:4] + "/" + hexed[4:] + "/" + name
		header := http.Header{"Cache-Control": {"max-age=365000000, immutable, public"}}
		artifacts[path] = file{body: wheel, kind: "application/octet-stream", header: header}
		listed := pypiFile{
			Filename: name,
			URL:      "https://" + filesHost + path,
			Hashes:   map[string]string{"sha256": hexSHA256(wheel)},
			Yanked:   false,
		}
		if metadata != nil {
			artifacts[path+".metadata"] = file{body: metadata, kind: "application/octet-stream", header: header}
			listed.CoreMetadata = map[string]string{"sha256": hexSHA256(metadata)}
		}
		if p.Yanked != "" {
			listed.Yanked = p.Yanked
		}
		if !p.Uploaded.IsZero() {
			listed.UploadTime = p.Uploaded.UTC().Format("2006-01-02T15:04:05.000000Z")
		}
		projects[p.Name] = append(projects[p.Name], listed)
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
		fmt.Fprintf(&b, "<a href=\"%s#sha256=%s\"", html.EscapeString(f.URL), f.Hashes["sha256"])
		if digest := f.CoreMetadata["sha256"]; digest != "" {
			fmt.Fprintf(&b, " data-core-metadata=\"sha256=%s\"", digest)
		}
		if reason, ok := f.Yanked.(string); ok {
			fmt.Fprintf(&b, " data-yanked=\"%s\"", html.EscapeString(reason))
		}
		fmt.Fprintf(&b, ">%s</a><br/>\n", html.EscapeString(f.Filename))
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

// makeSdist makes a source distribution that builds itself (PEP 517): what builds it is
// in it, so that nothing has to be fetched for it.
func makeSdist(p Package) ([]byte, error) {
	module := strings.ReplaceAll(p.Name, "-", "_")
	stem := wheelStem(p)
	hang := ""
	if p.Hangs {
		hang = "import subprocess; subprocess.run(['sleep', '600'])"
	}
	return tarGz([]member{
		{stem + "/PKG-INFO", fmt.Appendf(nil, "Metadata-Version: 2.1\nName: %s\nVersion: %s\n", p.Name, p.Version)},
		{stem + "/pyproject.toml", []byte("[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n")},
		{stem + "/backend.py", fmt.Appendf(nil, backend, module, p.Name, p.Version, hang)},
	})
}

// backend writes the wheel of one module.
const backend = `import os, zipfile
module, name, version = %q, %q, %q
def build_wheel(folder, config_settings=None, metadata_directory=None):
    %s
    stem = module + "-" + version
    file = stem + "-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, file), "w") as z:
        def put(path, text):
            z.writestr(zipfile.ZipInfo(path, (2025, 3, 14, 0, 0, 0)), text)
        put(module + "/__init__.py", "built = True\n")
        put(stem + ".dist-info/METADATA", "Metadata-Version: 2.1\nName: " + name + "\nVersion: " + version + "\nRequires-Python: >=3.6\n")
        put(stem + ".dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        put(stem + ".dist-info/RECORD", "")
    return file
`

func hexSHA256(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}
