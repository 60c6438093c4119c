package tests

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport is the table "Packages, and which way the arrows point" of the
// design: for each package of larder, the packages of larder it may import.
var mayImport = map[string]struct {
	packages []string // nil: none
	why      string
}{
	"ca":              {nil, "an authority knows nothing of proxies; it can be read, tested and replaced alone"},
	"ca/remote":       {[]string{"ca"}, "the network between an authority and the one that has its root"},
	"certs":           {nil, "what a node trusts is made of PEM and names, whoever signed"},
	"policy":          {[]string{"registry/pypi", "registry/npm"}, "a request in, a decision out; the one place that every other may ask. How registries write versions it need not know"},
	"auth":            {nil, "who is a client: files of hashes and certificates, whoever asks"},
	"git":             {nil, "a protocol read from bytes; whoever carries them"},
	"cache/store":     {nil, "keys, metadata and bytes; HTTP is the cache's business"},
	"cache/integrity": {nil, "digests of bodies, whoever keeps them"},
	"ledger":          {nil, "URLs, digests and signatures; HTTP is the cache's business"},
	"cache/digests":   {[]string{"cache/integrity"}, "digests by key in a file; whose they are does not matter"},
	"cache":           {[]string{"cache/store", "cache/integrity", "cache/digests", "registry/indexes", "ledger"}, "HTTP caching over a store; rules come in as values of its own"},
	"mitm":            {[]string{"ca", "curation", "wheels", "policy", "cache", "cache/store", "cache/integrity", "git"}, "joins the leaves through interfaces that it declares"},
	"admin":           {nil, "sees larder through interfaces that it declares"},
	"kit":             {[]string{"certs"}, "answers over HTTP with what certs makes; who listens is another's business"},
	"doctor":          {nil, "what is known of clients, whoever has found it out"},
	"firewall":        {nil, "text for nft; it changes nothing and knows no larder"},
	"daemon":          {nil, "hosts any proxy; cmd gives it one"},

	"wheels":              {[]string{"registry/pypi"}, "a folder of wheels and what pip makes of source distributions; what indexes make of them is for others"},
	"curation":            {[]string{"policy", "registry/pypi", "registry/npm", "registry/rawjson", "wheels"}, "indexes in and out, and verdicts; nothing is fetched, nobody is answered"},
	"registry/rawjson":    {nil, "JSON taken apart and put together; whose it is does not matter"},
	"registry/pypi":       {[]string{"registry/rawjson"}, "an index read and written; who asked for it and why is for others"},
	"registry/npm":        {[]string{"registry/rawjson"}, "an index read and written; who asked for it and why is for others"},
	"registry/compressed": {nil, "files unpacked, whatever is in them"},
	"registry/jsonstream": {nil, "JSON of any length, whatever it says"},
	"registry/checksums":  {[]string{"cache/integrity"}, "a file of checksums taken apart; where it came from does not matter"},
	"registry/conda":      {[]string{"cache/integrity", "registry/jsonstream"}, "an index taken apart; where it came from does not matter"},
	"registry/crates":     {[]string{"cache/integrity"}, "an index taken apart; where it came from does not matter"},
	"registry/debian":     {[]string{"cache/integrity"}, "an index taken apart; where it came from does not matter"},
	"registry/gosum":      {[]string{"cache/integrity"}, "an answer taken apart; where it came from does not matter"},
	"registry/helm":       {[]string{"cache/integrity"}, "an index taken apart; where it came from does not matter"},
	"registry/nix":        {[]string{"cache/integrity"}, "a .narinfo taken apart; where it came from does not matter"},
	"registry/rpm":        {[]string{"cache/integrity"}, "an index taken apart; where it came from does not matter"},
	"registry/rubygems":   {[]string{"cache/integrity"}, "an index taken apart; where it came from does not matter"},
	"registry/indexes": {[]string{
		"cache/integrity", "registry/compressed", "registry/checksums", "registry/conda", "registry/crates", "registry/debian", "registry/gosum",
		"registry/helm", "registry/jsonstream", "registry/nix", "registry/rpm", "registry/rubygems",
	}, "which package reads which index; what is done with the digests is the cache's business"},
}

// forbiddenStandard are packages of the standard library that some must not
// import, with the reason.
var forbiddenStandard = map[string]map[string]string{
	"cache/store": {"net/http": "the store holds bytes, not messages"},
	"ca":          {"net/http": "no certificate is fetched"},
	"firewall":    {"os/exec": "an operator loads what an operator has read"},
	"policy":      {"os/exec": "a policy file runs nothing", "crypto/tls": "decides by names, before any handshake"},
}

// notAnywhere are modules and packages that no package of larder imports itself.
var notAnywhere = map[string]string{
	"github.com/stretchr/testify": "STYLE: go-cmp and the standard library",
	"log":                         "log/slog through a field; log's default logger is a global",
	"math/rand":                   "math/rand/v2",
	"io/ioutil":                   "deprecated since Go 1.16",
	"unsafe":                      "nothing here is worth it",
}

// listedPackage is what "go list -json" says of a package.
type listedPackage struct {
	ImportPath  string
	Imports     []string
	TestImports []string
}

// TestImportDirections keeps the arrows of the design pointing one way.
func TestImportDirections(t *testing.T) {
	t.Parallel()
	packages := listPackages(t)
	for name := range mayImport {
		if _, ok := packages["larder/"+name]; !ok {
			t.Errorf("package %s of the design is not there", name)
		}
	}
	for path, p := range packages {
		name := strings.TrimPrefix(path, "larder/")
		// A package below one of the table is part of it, presets for example.
		rule, ok := mayImport[name]
		if !ok {
			continue
		}
		for _, imported := range p.Imports {
			other, ours := strings.CutPrefix(imported, "larder/")
			below := strings.HasPrefix(other, name+"/") && mayImport[other].why == ""
			if ours && !below && !slices.Contains(rule.packages, other) {
				t.Errorf("%s imports %s: %s", name, other, rule.why)
			}
			if why, forbidden := forbiddenStandard[name][imported]; forbidden {
				t.Errorf("%s imports %s: %s", name, imported, why)
			}
		}
	}
}

// TestForbiddenImports looks at every package, its tests included.
func TestForbiddenImports(t *testing.T) {
	t.Parallel()
	for path, p := range listPackages(t) {
		if slices.Contains(p.Imports, "larder/tests/origin") && !strings.HasPrefix(path, "larder/tests") {
			t.Errorf("%s imports the tests' registries: they are for tests only", path)
		}
		for _, imported := range slices.Concat(p.Imports, p.TestImports) {
			for module, why := range notAnywhere {
				inModule := strings.Contains(module, ".") && strings.HasPrefix(imported, module+"/")
				if (imported == module || inModule) && !allowedImport(path, module) {
					t.Errorf("%s imports %s: %s", path, imported, why)
				}
			}
		}
		last := path[strings.LastIndex(path, "/")+1:]
		if slices.Contains([]string{"util", "utils", "common", "helpers", "types", "models", "pkg"}, last) {
			t.Errorf("package %s: a package is a noun that the operator knows", path)
		}
	}
}

// allowedImport lists the exceptions to notAnywhere.
func allowedImport(path, module string) bool {
	// http.Server.ErrorLog and others are *log.Logger, filled from slog.
	return module == "log" && slices.Contains([]string{"larder/mitm", "larder/ca", "larder/admin", "larder/daemon", "larder/tests/origin"}, path)
}

func listPackages(t *testing.T) map[string]listedPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports", "larder/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := make(map[string]listedPackage)
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listedPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("read go list: %v", err)
		}
		packages[p.ImportPath] = p
	}
}
