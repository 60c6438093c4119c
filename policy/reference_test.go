package policy

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestAnnotatedFileSaysWhatHoldsWithoutOne(t *testing.T) {
	got := mustParse(t, Annotated())
	want, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Settings(), got.Settings()); diff != "" {
		t.Errorf("settings differ (-built-in +annotated):\n%s", diff)
	}
	if len(got.Rules()) != len(want.Rules()) {
		t.Errorf("%d rules, want %d", len(got.Rules()), len(want.Rules()))
	}
}

// uncommented turns the examples of the annotated file on: lines in which a
// key, or the space before one, follows the #.
func uncommented() string {
	example := regexp.MustCompile(`(?m)^#([a-z_]+:|  )`)
	return example.ReplaceAllString(Annotated(), "$1")
}

func TestAnnotatedExamplesAreValid(t *testing.T) {
	presets, err := Presets()
	if err != nil {
		t.Fatal(err)
	}
	p, err := parse("larder.yaml", []byte(uncommented()), presets, false) // the lists of the examples are not there
	if err != nil {
		t.Fatal(err)
	}
	r := p.Rules()[0]
	if r.Name != "corp-releases" || r.Action != Immutable {
		t.Errorf("first rule is %v %v", r.Name, r.Action)
	}
	// Every key of a rule is shown with a value that does something.
	for i := range reflect.TypeFor[Rule]().NumField() {
		f := reflect.TypeFor[Rule]().Field(i)
		if tag := f.Tag.Get("yaml"); tag != "" && tag != "-" && !slices.ContainsFunc(p.Rules(), func(r *Rule) bool {
			return r.Preset == "" && !reflect.ValueOf(*r).Field(i).IsZero()
		}) {
			t.Errorf("example leaves %s out", tag)
		}
	}
}

// decoderKeys returns the keys that the decoder takes at each level, from the
// hints that it gives on a key that resembles none.
func decoderKeys(t *testing.T) map[string][]string {
	t.Helper()
	const odd = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqq: 1"
	_, err := Parse("f.yaml", []byte(odd+"\nadmin: {"+odd+"}\nlimits: {"+odd+"}\nkit: {"+odd+"}\ncuration: [{"+odd+", name: c}]\nwheels: {"+odd+"}\nstore: {"+odd+"}\nledger: {"+odd+"}\nupstream: {"+odd+", parents: [{"+odd+"}], hosts: [{"+odd+"}], dns: {"+odd+"}}\nauth: {"+odd+"}\nlisteners: [{"+odd+"}]\n"+
		"rules: [{"+odd+", name: r, request: {"+odd+"}}]\n"))
	problems, ok := errors.AsType[*Errors](err)
	if !ok {
		t.Fatalf("Parse = %v", err)
	}
	keys := make(map[string][]string)
	for _, p := range problems.Problems {
		if list, ok := strings.CutPrefix(p.Hint, "known here: "); ok {
			keys[p.Context] = strings.Split(list, ", ")
		}
	}
	return keys
}

func TestEveryKeyIsADocumentedField(t *testing.T) {
	keys := decoderKeys(t)
	documented := documentedFields(t)
	for context, of := range map[string]reflect.Type{
		"":                   reflect.TypeFor[Settings](),
		"admin":              reflect.TypeFor[Admin](),
		"limits":             reflect.TypeFor[Limits](),
		"kit":                reflect.TypeFor[Kit](),
		"wheels":             reflect.TypeFor[Wheels](),
		`curation "c"`:       reflect.TypeFor[Curation](),
		"store":              reflect.TypeFor[Store](),
		"ledger":             reflect.TypeFor[LedgerBounds](),
		"upstream":           reflect.TypeFor[Upstream](),
		"auth":               reflect.TypeFor[Auth](),
		"listeners":          reflect.TypeFor[Listener](),
		"upstream: parent 1": reflect.TypeFor[Parent](),
		"upstream: host 1":   reflect.TypeFor[Origin](),
		"upstream: dns":      reflect.TypeFor[DNS](),
		`rule "r"`:           reflect.TypeFor[Rule](),
		`rule "r": request`:  reflect.TypeFor[HeaderChanges](),
	} {
		var tags []string
		for i := range of.NumField() {
			f := of.Field(i)
			tag := f.Tag.Get("yaml")
			if tag == "" || tag == "-" {
				continue
			}
			tags = append(tags, tag)
			if !documented[of.Name()+"."+f.Name] {
				t.Errorf("field %s.%s has no comment", of.Name(), f.Name)
			}
			if !strings.Contains(uncommented(), tag+":") {
				t.Errorf("annotated.yaml does not show %s", tag)
			}
		}
		got := slices.DeleteFunc(slices.Clone(keys[context]), func(k string) bool { return k == "rules" })
		if diff := cmp.Diff(tags, got, cmpopts.SortSlices(strings.Compare)); diff != "" {
			t.Errorf("keys of %s differ (-%s +decoder):\n%s", context, of.Name(), diff)
		}
	}
}

// documentedFields returns the struct fields of this package that have a doc
// comment, as Type.Field.
func documentedFields(t *testing.T) map[string]bool {
	t.Helper()
	documented := make(map[string]bool)
	for _, name := range []string{"settings.go", "listener.go", "upstream.go", "rule.go", "curation.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range s.Fields.List {
					for _, id := range f.Names {
						documented[spec.Name.Name+"."+id.Name] = f.Doc.Text() != ""
					}
				}
			}
			return true
		})
	}
	return documented
}

// The registries' host names are written as globs or with braces throughout.
func TestNoRegistryHostIsSpelledOut(t *testing.T) {
	var exact []string
	for domain, names := range map[string]string{
		"npmjs.org": "registry", "yarnpkg.com": "registry", "pythonhosted.org": "files", "golang.org": "proxy sum",
		"crates.io": "index static", "maven.org": "repo1 repo", "maven.apache.org": "repo", "debian.org": "deb security",
	} {
		for name := range strings.FieldsSeq(names) {
			exact = append(exact, name+"."+domain)
		}
	}
	exact = append(exact, "pypi"+".org")
	err := fs.WalkDir(os.DirFS("."), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, name := range exact {
			if strings.Contains(string(data), name) {
				t.Errorf("%s spells out %s", path, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
