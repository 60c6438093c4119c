package shapes

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Shape is one URL and what shall become of a request for it.
type Shape struct {
	// File and Line are where the shape is written.
	File string
	Line int
	// Rule decides, by its name without the preset; "" if none does.
	Rule string
	// Action and TTL are those of the decision, in the words of a policy file.
	Action string
	TTL    time.Duration
	Method string
	// Body is the kind of the request's body, in the words of a policy file; "" where
	// nobody looks into it.
	Body string
	URL  string
	// Exchange is what is said on the wire.
	Exchange Exchange
	// Unstored: the fields of the exchange keep the response from being stored.
	Unstored bool
}

// Exchange is what a client asks with and upstream answers.
type Exchange struct {
	// Name is "" for the exchange of shapes that name none: a 200 with an ETag.
	Name              string
	Status            int
	Request, Response http.Header
}

// String names the shape in messages of a test.
func (s Shape) String() string {
	return fmt.Sprintf("%s:%d: %s %s", s.File, s.Line, s.Method, s.URL)
}

// Read reads a file of shapes. The shapes must not be changed.
func Read(file string) ([]Shape, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read shapes: %w", err)
	}
	defer f.Close()
	r := reader{file: file, exchanges: map[string]*Exchange{
		"": {Status: http.StatusOK, Request: http.Header{}, Response: http.Header{"Etag": {`"1"`}}},
	}}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		r.line++
		if err := r.read(lines.Text()); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, r.line, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read shapes: %w", err)
	}
	return r.shapes, nil
}

type reader struct {
	file      string
	line      int
	exchanges map[string]*Exchange
	open      *Exchange // whose fields follow
	shapes    []Shape
}

func (r *reader) read(text string) error {
	bare := strings.TrimSpace(text)
	switch {
	case bare == "" || strings.HasPrefix(bare, "#"):
		return nil
	case strings.HasPrefix(text, "@"):
		return r.exchange(strings.Fields(text[1:]))
	case strings.HasPrefix(text, " "):
		return r.field(bare)
	}
	return r.shape(strings.Fields(text))
}

func (r *reader) exchange(words []string) error {
	if len(words) == 0 || len(words) > 2 || r.exchanges[words[0]] != nil {
		return fmt.Errorf("an exchange is @NAME or @NAME STATUS, each name once; found %q", words)
	}
	r.open = &Exchange{Name: words[0], Status: http.StatusOK, Request: http.Header{}, Response: http.Header{}}
	r.exchanges[words[0]] = r.open
	if len(words) == 2 {
		var err error
		if r.open.Status, err = strconv.Atoi(words[1]); err != nil {
			return fmt.Errorf("%q is no status", words[1])
		}
	}
	return nil
}

func (r *reader) field(text string) error {
	if r.open == nil {
		return fmt.Errorf("a header field outside of an exchange: %q", text)
	}
	header := r.open.Response
	if request, ok := strings.CutPrefix(text, ">"); ok {
		header, text = r.open.Request, strings.TrimSpace(request)
	}
	name, value, ok := strings.Cut(text, ":")
	if !ok {
		return fmt.Errorf("%q is no header field", text)
	}
	header.Add(name, strings.TrimSpace(value))
	return nil
}

func (r *reader) shape(words []string) error {
	r.open = nil
	s := Shape{File: r.file, Line: r.line, Method: http.MethodGet}
	if last := len(words) - 1; last >= 0 && words[last] == "unstored" {
		s.Unstored, words = true, words[:last]
	}
	name := ""
	if last := len(words) - 1; last >= 0 && strings.HasPrefix(words[last], "@") {
		name, words = words[last][1:], words[:last]
	}
	if len(words) == 5 {
		s.Method, s.Body, _ = strings.Cut(strings.TrimSuffix(words[3], ")"), "(")
		words = append(words[:3:3], words[4])
	}
	if len(words) != 4 {
		return fmt.Errorf("a shape is RULE ACTION TTL [METHOD] URL [@EXCHANGE] [unstored]; found %q", words)
	}
	s.Rule, s.Action = strings.TrimPrefix(words[0], "-"), words[1]
	var err error
	if s.TTL, err = ttl(words[2]); err != nil {
		return err
	}
	x := r.exchanges[name]
	if x == nil {
		return fmt.Errorf("there is no exchange @%s above", name)
	}
	s.Exchange = *x
	for _, s.URL = range expand(digits(words[3])) {
		r.shapes = append(r.shapes, s)
	}
	return nil
}

func ttl(word string) (time.Duration, error) {
	if word == "-" {
		return 0, nil
	}
	if days, ok := strings.CutSuffix(word, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(word)
	if err != nil {
		return 0, fmt.Errorf("%q is no ttl", word)
	}
	return d, nil
}

// digits writes out what stands for hexadecimal digits, at most 128.
func digits(url string) string {
	before, rest, open := strings.Cut(url, "<")
	count, after, closed := strings.Cut(rest, ">")
	n, err := strconv.Atoi(count)
	if !open || !closed || err != nil || n < 0 || n > 128 {
		return url
	}
	return before + strings.Repeat("9f86d081884c7d65", 8)[:n] + digits(after)
}

// expand makes one URL of each alternative in braces, which do not nest.
func expand(url string) []string {
	before, rest, open := strings.Cut(url, "{")
	group, after, closed := strings.Cut(rest, "}")
	if !open || !closed {
		return []string{url}
	}
	var all []string
	for alternative := range strings.SplitSeq(group, ",") {
		all = append(all, expand(before+alternative+after)...)
	}
	return all
}
