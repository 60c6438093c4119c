package origin

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/sumdb/note"
	modzip "golang.org/x/mod/zip"
)

// GoProxy serves modules on one host as the module proxy protocol says, and a
// checksum database of the given name under /sumdb/ of the same host as well as
// on the database's own host. It returns the verifier key that GOSUMDB takes.
// A Package here is a module: Name is its path.
func GoProxy(s *Server, host, sumdbHost string, packages ...Package) (verifier string, err error) {
	signer, verifier, err := note.GenerateKey(rand.Reader, sumdbHost)
	if err != nil {
		return "", fmt.Errorf("make key of checksum database: %w", err)
	}
	served := make(files)
	sums := make(map[module.Version][]byte)
	lists := make(map[string]string)
	for _, p := range packages {
		escaped, err := module.EscapePath(p.Name)
		if err != nil {
			return "", fmt.Errorf("escape module path: %w", err)
		}
		info, err := json.Marshal(struct {
			Version string
			Time    time.Time
		}{p.Version, published})
		if err != nil {
			return "", fmt.Errorf("encode info of %s: %w", p.Name, err)
		}
		mod := goMod(p)
		archive, err := moduleZip(p, mod)
		if err != nil {
			return "", fmt.Errorf("make zip of %s: %w", p.Name, err)
		}
		base := "/" + escaped + "/@v/"
		header := http.Header{"Cache-Control": {"public, max-age=10800"}}
		served[base+p.Version+".info"] = file{body: info, kind: "application/json", header: header}
		served[base+p.Version+".mod"] = file{body: mod, kind: "text/plain; charset=UTF-8", header: header}
		served[base+p.Version+".zip"] = file{body: archive, kind: "application/zip", header: header}
		lists[base+"list"] += p.Version + "\n"
		served["/"+escaped+"/@latest"] = file{
			body: info, kind: "application/json",
			header: http.Header{"Cache-Control": {"public, max-age=60"}},
		}
		if sums[module.Version{Path: p.Name, Version: p.Version}], err = goSum(p, mod, archive); err != nil {
			return "", fmt.Errorf("sum %s: %w", p.Name, err)
		}
	}
	for where, list := range lists {
		served[where] = file{
			body: []byte(list), kind: "text/plain; charset=UTF-8",
			header: http.Header{"Cache-Control": {"public, max-age=60"}},
		}
	}
	records := sumdb.NewTestServer(signer, func(path, version string) ([]byte, error) {
		lines, ok := sums[module.Version{Path: path, Version: version}]
		if !ok {
			return nil, os.ErrNotExist
		}
		return lines, nil
	})
	// Looked up now, so that the tree has one size: which tiles a client asks for
	// would else depend on the order of its own look-ups.
	for _, p := range packages {
		if _, err := records.Lookup(context.Background(), module.Version{Path: p.Name, Version: p.Version}); err != nil {
			return "", fmt.Errorf("record %s: %w", p.Name, err)
		}
	}
	database := sumdb.NewServer(records)
	mux := http.NewServeMux()
	mux.Handle("/", served)
	mux.HandleFunc("/sumdb/"+sumdbHost+"/supported", func(http.ResponseWriter, *http.Request) {})
	for _, prefix := range sumdb.ServerPaths {
		mux.Handle("/sumdb/"+sumdbHost+prefix, http.StripPrefix("/sumdb/"+sumdbHost, database))
	}
	s.Handle(host, mux)
	s.Handle(sumdbHost, database)
	return verifier, nil
}

func goMod(p Package) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "module %s\n\ngo 1.21\n", p.Name)
	for _, need := range p.Requires {
		fmt.Fprintf(&b, "\nrequire %s v1.0.0\n", need)
	}
	return []byte(b.String())
}

func moduleZip(p Package, mod []byte) ([]byte, error) {
	var buf bytes.Buffer
	err := modzip.Create(&buf, module.Version{Path: p.Name, Version: p.Version}, []modzip.File{
		memoryFile{member{"go.mod", mod}},
		memoryFile{member{"demo.go", fmt.Appendf(nil, "package %s\n", path.Base(p.Name))}},
		memoryFile{member{"ballast.bin", ballast(p.Name, p.Payload)}},
	})
	return buf.Bytes(), err
}

// goSum is the pair of go.sum lines that the checksum database vouches for.
func goSum(p Package, mod, archive []byte) ([]byte, error) {
	temp, err := os.CreateTemp("", "larder-origin-*.zip")
	if err != nil {
		return nil, err
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	if _, err := temp.Write(archive); err != nil {
		return nil, err
	}
	whole, err := dirhash.HashZip(temp.Name(), dirhash.Hash1)
	if err != nil {
		return nil, err
	}
	onlyMod, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(mod)), nil
	})
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s %s %s\n%s %s/go.mod %s\n", p.Name, p.Version, whole, p.Name, p.Version, onlyMod), nil
}

// memoryFile is a member as modzip wants it.
type memoryFile struct{ member }

func (f memoryFile) Path() string { return f.name }

func (f memoryFile) Lstat() (os.FileInfo, error) { return memoryInfo(f), nil }

func (f memoryFile) Open() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(f.body)), nil
}

type memoryInfo struct{ member }

func (i memoryInfo) Name() string       { return path.Base(i.name) }
func (i memoryInfo) Size() int64        { return int64(len(i.body)) }
func (i memoryInfo) Mode() os.FileMode  { return 0o644 }
func (i memoryInfo) ModTime() time.Time { return published }
func (i memoryInfo) IsDir() bool        { return false }
func (i memoryInfo) Sys() any           { return nil }
