package origin

import (
	"crypto/sha1" //nolint:gosec // npm's shasum is SHA-1 by definition
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strings"
)

// npmCorgi is the type of the abbreviated packument that installs ask for.
const npmCorgi = "application/vnd.npm.install-v1+json"

// NPM serves packuments and tarballs on one host. A name may be scoped
// ("@scope/name"). Audit requests are answered with no findings.
func NPM(s *Server, host string, packages ...Package) error {
	tarballs := make(files)
	packuments := make(map[string]map[string]any) // name → version → manifest
	times := make(map[string]map[string]string)
	for _, p := range packages {
		manifest := map[string]any{"name": p.Name, "version": p.Version, "main": "index.js"}
		if len(p.Requires) > 0 {
			needs := make(map[string]string)
			for _, need := range p.Requires {
				needs[need] = "*"
			}
			manifest["dependencies"] = needs
		}
		tarball, err := npmTarball(p, manifest)
		if err != nil {
			return fmt.Errorf("make tarball of %s: %w", p.Name, err)
		}
		where := "/" + p.Name + "/-/" + path.Base(p.Name) + "-" + p.Version + ".tgz"
		tarballs[where] = file{
			body:   tarball,
			kind:   "application/octet-stream",
			header: http.Header{"Cache-Control": {"public, immutable, max-age=31557600"}},
		}
		integrity := sha512.Sum512(tarball)
		shasum := sha1.Sum(tarball)
		manifest["dist"] = map[string]string{
			"tarball":   "https://" + host + where,
			"integrity": "sha512-" + base64.StdEncoding.EncodeToString(integrity[:]),
			"shasum":    hex.EncodeToString(shasum[:]),
		}
		if packuments[p.Name] == nil {
			packuments[p.Name] = make(map[string]any)
		}
		packuments[p.Name][p.Version] = manifest
		if !p.Uploaded.IsZero() {
			if times[p.Name] == nil {
				times[p.Name] = make(map[string]string)
			}
			times[p.Name][p.Version] = p.Uploaded.UTC().Format("2006-01-02T15:04:05.000Z")
		}
	}
	s.Handle(host, npmRegistry{tarballs: tarballs, packuments: packuments, times: times})
	return nil
}

type npmRegistry struct {
	tarballs   files
	packuments map[string]map[string]any
	times      map[string]map[string]string // of the full documents
}

func (n npmRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/-/npm/v1/security/") {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{}"))
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	versions, ok := n.packuments[name]
	if !ok {
		n.tarballs.ServeHTTP(w, r)
		return
	}
	var latest string
	for version := range versions {
		latest = max(latest, version)
	}
	packument := map[string]any{
		"name":      name,
		"dist-tags": map[string]string{"latest": latest},
		"versions":  versions,
		"modified":  published,
	}
	kind := "application/json"
	if strings.Contains(r.Header.Get("Accept"), npmCorgi) {
		kind = npmCorgi
	} else {
		packument["_id"] = name
		packument["readme"] = "made for a test"
		if times := n.times[name]; times != nil {
			packument["time"] = times
		}
	}
	body, err := json.Marshal(packument)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	file{
		body:     body,
		kind:     kind,
		header:   http.Header{"Cache-Control": {"public, max-age=300"}, "Vary": {"Accept"}},
		compress: true,
	}.serve(w, r)
}

func npmTarball(p Package, manifest map[string]any) ([]byte, error) {
	description, err := json.MarshalIndent(manifest, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode package.json: %w", err)
	}
	return tarGz([]member{
		{"package/package.json", description},
		{"package/index.js", fmt.Appendf(nil, "module.exports = %q;\n", p.Version)},
		{"package/ballast.bin", ballast(p.Name, p.Payload)},
	})
}
