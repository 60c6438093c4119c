package rawjson

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestObjectKeepsOrderAndBytes(t *testing.T) {
	t.Parallel()
	v, err := Parse([]byte(" {\"b\" : 1.50, \"a\\u0062\":[1, 2 ,{\"x\":\"}\\\"]\"}],\n\"n\":null} "))
	if err != nil {
		t.Fatal(err)
	}
	o, err := v.Object()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(o.Get("ab")), `[1, 2 ,{"x":"}\"]"}]`; got != want {
		t.Errorf("value is %s, want its bytes %s", got, want)
	}
	o.Set("b", Value("2"))
	o.Set("z", OfString("<&>"))
	o.Delete("n")
	if got, want := string(o.Value()), `{"b":2,"a\u0062":[1, 2 ,{"x":"}\"]"}],"z":"<&>"}`; got != want {
		t.Errorf("object is\n%s, want\n%s", got, want)
	}
}

func TestArrayIsTakenApartAndPutTogether(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`[]`: `[]`, `[ 1 , "a,]" , [ ] , true]`: `[1,"a,]",[ ],true]`,
	} {
		v, err := Parse([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		all, err := v.Array()
		if err != nil {
			t.Fatal(err)
		}
		if got := string(OfArray(all)); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}

func TestWhatTwoReadersTakeDifferentlyIsRefused(t *testing.T) {
	t.Parallel()
	many := strings.Builder{}
	for i := range 40 {
		many.WriteString(`"` + strings.Repeat("k", i+1) + `":1,`)
	}
	for name, in := range map[string]string{
		"a name twice":            `{"a":1,"a":2}`,
		"a name twice, escaped":   `{"a":1,"\u0061":2}`,
		"a name twice among many": `{` + many.String() + `"k":2}`,
		"no UTF-8":                "{\"a\":\"\xff\"}",
		"something behind":        `{} {}`,
		"an array":                `[]`,
		"nothing":                 ``,
	} {
		t.Run(name, func(t *testing.T) {
			v, err := Parse([]byte(in))
			if err == nil {
				_, err = v.Object()
			}
			if err == nil {
				t.Errorf("%s is taken", in)
			}
		})
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{`"a"`: "a", `"a\"b"`: `a"b`, `"\u00e9"`: "é", `1`: "", `null`: ""} {
		got, ok := Value(in).Text()
		if got != want || ok != (in[0] == '"') {
			t.Errorf("text of %s is %q, %t", in, got, ok)
		}
	}
}

// FuzzParse holds every document against encoding/json: what is taken apart and put
// together means the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":"c\\"}],"d":null}`, `[[],{}]`, `{"a" : "\u0061"}`, ` 1 `, `{"":{"":[{}]}}`, `"\ud800"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := Parse(in)
		if err != nil {
			return
		}
		again, err := rebuild(v)
		if err != nil {
			return // a name twice
		}
		var a, b any
		da, db := json.NewDecoder(bytes.NewReader(in)), json.NewDecoder(bytes.NewReader(again))
		da.UseNumber()
		db.UseNumber()
		if err := da.Decode(&a); err != nil {
			t.Fatal(err)
		}
		if err := db.Decode(&b); err != nil {
			t.Fatalf("%q became %q: %v", in, again, err)
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("%q became %q (-in +out):\n%s", in, again, diff)
		}
	})
}

// FuzzValue sees that text that nobody checked ends in an error.
func FuzzValue(f *testing.F) {
	for _, s := range []string{`{"a":`, `["`, `[1,`, `{"a"`, `{"a":1,}`, `[{]}`, `{,`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, in []byte) { _, _ = rebuild(Value(in)) })
}

func rebuild(v Value) (Value, error) {
	if len(v) == 0 {
		return v, nil
	}
	switch v[0] {
	case '{':
		o, err := v.Object()
		if err != nil {
			return nil, err
		}
		for name, value := range o.All() {
			value, err := rebuild(value)
			if err != nil {
				return nil, err
			}
			o.Set(name, value)
		}
		return o.Value(), nil
	case '[':
		all, err := v.Array()
		for i := range all {
			if err == nil {
				all[i], err = rebuild(all[i])
			}
		}
		return OfArray(all), err
	}
	return v, nil
}
