package jsonstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// flatten lists the strings of a document with the names that lead to them.
func flatten(s *Scanner, at string, out *[]string) error {
	c, err := s.peek()
	if err != nil {
		return err
	}
	switch c {
	case '{':
		return s.Object(func(name string) (bool, error) { return true, flatten(s, at+"/"+name, out) })
	case '[':
		n := 0
		return s.Array(func() error {
			n++
			return flatten(s, fmt.Sprintf("%s/%d", at, n-1), out)
		})
	}
	text, ok, err := s.Text()
	if ok {
		*out = append(*out, at+"="+text)
	}
	return err
}

func TestStringsAreFound(t *testing.T) {
	for _, c := range []struct {
		name, document string
		want           []string
	}{
		{"an object", `{"a":"1", "b" : {"c":"2"}, "d":[ "3", 4, null, {"e":"5"} ] }`, []string{"/a=1", "/b/c=2", "/d/0=3", "/d/3/e=5"}},
		{"escapes", `{"a\u0062":"x\"y\\\u00e9é\ud83d\ude00"}`, []string{`/ab=x"y\éé😀`}},
		{"empty ones", `{"a":{},"b":[],"c":""}`, []string{"/c="}},
		{"nothing but numbers", `[1,-2.5e3,true]`, nil},
		{"a string that is too long", `["` + strings.Repeat("x", MaxString) + `","y"]`, []string{"/1=y"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			if err := flatten(NewScanner(strings.NewReader(c.document)), "", &got); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestWhatIsNotTakenIsPassedOver(t *testing.T) {
	const document = `{"big":{"a":["}","]",{"x":"\"}"}],"n":1.5},"want":"yes","other":[[[[]]]],"odd":5}`
	var got string
	s := NewScanner(strings.NewReader(document))
	err := s.Object(func(name string) (bool, error) {
		if name != "want" {
			return false, nil
		}
		var err error
		got, _, err = s.Text()
		return true, err
	})
	if err != nil || got != "yes" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestBrokenDocumentsAreErrors(t *testing.T) {
	for _, document := range []string{``, `{`, `{"a"`, `{"a":`, `{"a":"x`, `{"a" "b"}`, `["a" "b"]`, `{"a":}`, `[,]`, `{"a":"\q"}`, `{"a":1"b":2}`, `]`} {
		var out []string
		if err := flatten(NewScanner(strings.NewReader(document)), "", &out); err == nil {
			t.Errorf("%q is taken for JSON: %q", document, out)
		} else if !errors.Is(err, ErrSyntax) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v", document, err)
		}
	}
}

func TestDepthCostsNothing(t *testing.T) {
	s := NewScanner(io.MultiReader(strings.NewReader(strings.Repeat("[", 1<<20)), strings.NewReader(strings.Repeat("]", 1<<20))))
	if err := s.Skip(); err != nil {
		t.Error(err)
	}
}

// FuzzScanner: of a valid document, the Scanner sees what the standard library does.
func FuzzScanner(f *testing.F) {
	f.Add(`{"a":"1", "b" : {"c":"2"}, "d":[ "3", 4, null, {"e":"5"} ] }`)
	f.Add(`{"a\u0062":"x\"y\\é"}`)
	f.Fuzz(func(t *testing.T, document string) {
		var got []string
		err := flatten(NewScanner(strings.NewReader(document)), "", &got)
		if !json.Valid([]byte(document)) {
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", document, err)
		}
		var want []string
		d := json.NewDecoder(strings.NewReader(document))
		flattenStandard(t, d, "", &want)
		if !slices.Equal(got, want) {
			t.Errorf("%q:\n got %q\nwant %q", document, got, want)
		}
	})
}

func flattenStandard(t *testing.T, d *json.Decoder, at string, out *[]string) {
	token, err := d.Token()
	if err != nil {
		t.Fatal(err)
	}
	switch v := token.(type) {
	case json.Delim:
		for n := 0; d.More(); n++ {
			name := fmt.Sprint(n)
			if v == '{' {
				token, err := d.Token()
				if err != nil {
					t.Fatal(err)
				}
				name = token.(string)
			}
			flattenStandard(t, d, at+"/"+name, out)
		}
		_, _ = d.Token()
	case string:
		*out = append(*out, at+"="+v)
	}
}
