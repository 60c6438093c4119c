package origin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// crateLine is one version in a sparse index file.
type crateLine struct {
	Name     string              `json:"name"`
	Version  string              `json:"vers"`
	Deps     []crateDep          `json:"deps"`
	Checksum string              `json:"cksum"`
	Features map[string][]string `json:"features"`
	Yanked   bool                `json:"yanked"`
}

type crateDep struct {
	Name            string   `json:"name"`
	Req             string   `json:"req"`
	Features        []string `json:"features"`
	Optional        bool     `json:"optional"`
	DefaultFeatures bool     `json:"default_features"`
	Target          *string  `json:"target"`
	Kind            string   `json:"kind"`
}

// Crates serves a sparse index on one host and the .crate files on another.
func Crates(s *Server, indexHost, filesHost string, packages ...Package) error {
	config, err := json.Marshal(map[string]string{
		"dl":  "https://" + filesHost + "/crates",
		"api": "https://" + indexHost,
	})
	if err != nil {
		return fmt.Errorf("encode config.json: %w", err)
	}
	index := files{"/config.json": {
		body: config, kind: "application/json",
		header: http.Header{"Cache-Control": {"public, max-age=600"}},
	}}
	artifacts := make(files)
	lines := make(map[string][]byte)
	for _, p := range packages {
		crate, err := makeCrate(p)
		if err != nil {
			return fmt.Errorf("make crate %s: %w", p.Name, err)
		}
		line := crateLine{
			Name: p.Name, Version: p.Version, Deps: []crateDep{},
			Checksum: hexSHA256(crate), Features: map[string][]string{},
		}
		for _, need := range p.Requires {
			line.Deps = append(line.Deps, crateDep{
				Name: need, Req: "*", Features: []string{}, DefaultFeatures: true, Kind: "normal",
			})
		}
		encoded, err := json.Marshal(line)
		if err != nil {
			return fmt.Errorf("encode index line of %s: %w", p.Name, err)
		}
		where := crateIndexPath(p.Name)
		lines[where] = append(append(lines[where], encoded...), '\n')
		artifacts["/crates/"+p.Name+"/"+p.Version+"/download"] = file{
			body: crate, kind: "application/gzip",
			header: http.Header{"Cache-Control": {"public,max-age=31536000,immutable"}},
		}
	}
	for where, body := range lines {
		index[where] = file{
			body: body, kind: "text/plain", compress: true,
			header: http.Header{"Cache-Control": {"public,max-age=600"}},
		}
	}
	s.Handle(indexHost, index)
	s.Handle(filesHost, artifacts)
	return nil
}

// crateIndexPath spreads names over folders as cargo expects.
func crateIndexPath(name string) string {
	name = strings.ToLower(name)
	switch len(name) {
	case 1, 2:
		return fmt.Sprintf("/%d/%s", len(name), name)
	case 3:
		return fmt.Sprintf("/3/%s/%s", name[:1], name)
	default:
		return fmt.Sprintf("/%s/%s/%s", name[:2], name[2:4], name)
	}
}

func makeCrate(p Package) ([]byte, error) {
	var manifest strings.Builder
	fmt.Fprintf(&manifest, "[package]\nname = %q\nversion = %q\nedition = \"2021\"\n", p.Name, p.Version)
	if len(p.Requires) > 0 {
		manifest.WriteString("\n[dependencies]\n")
		for _, need := range p.Requires {
			fmt.Fprintf(&manifest, "%s = \"*\"\n", need)
		}
	}
	top := p.Name + "-" + p.Version + "/"
	return tarGz([]member{
		{top + "Cargo.toml", []byte(manifest.String())},
		{top + "src/lib.rs", []byte("//! Made for a test.\n")},
		{top + "ballast.bin", ballast(p.Name, p.Payload)},
	})
}
