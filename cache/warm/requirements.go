package warm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
)

// maxIncluded bounds how many files one requirements file includes.
const maxIncluded = 100

// requirement is what one line asks for.
type requirement struct {
	file   string
	line   int
	name   string // normalised (PEP 503), "" for a direct URL
	url    string
	hashes []Digest
}

// requirementsFile is a file with all that it includes, read.
type requirementsFile struct {
	planner *Planner
	plan    *Plan
	indexes []string // --index-url first, then the extra ones
	replace bool     // --index-url was given
	none    bool     // --no-index
	found   []requirement
	visited map[string]bool
}

// requirements reads pip's requirements file
// (https://pip.pypa.io/en/stable/reference/requirements-file-format/), in which every
// requirement has at least one --hash, as pip-compile --generate-hashes, uv export
// and poetry export write it.
func (p *Planner) requirements(ctx context.Context, name, text string) (Plan, error) {
	var plan Plan
	f := &requirementsFile{planner: p, plan: &plan, visited: map[string]bool{name: true}}
	f.parse(name, text)
	if !f.replace {
		f.indexes = append(slices.Clone(p.Sources.Indexes), f.indexes...)
	}
	seen := make(map[string]bool)
	pages := make(map[string][]page)
	for _, r := range f.found {
		if r.url != "" {
			f.direct(seen, r)
			continue
		}
		if len(r.hashes) == 0 {
			plan.note(r.file, r.line, true, "%s has no --hash, so it is not known which files are meant; make them with pip-compile --generate-hashes", r.name)
			continue
		}
		if f.none || len(f.indexes) == 0 {
			plan.note(r.file, r.line, true, "%s: no package index is named", r.name)
			continue
		}
		if _, ok := pages[r.name]; !ok {
			got, err := f.pages(ctx, r)
			if err != nil {
				if ctx.Err() != nil {
					return plan, ctx.Err()
				}
				plan.note(r.file, r.line, true, "%v", err)
			}
			pages[r.name] = got
		}
		f.choose(seen, r, pages[r.name])
	}
	return plan, nil
}

// direct is a requirement by URL, whose digest is a --hash or the fragment.
func (f *requirementsFile) direct(seen map[string]bool, r requirement) {
	it, err := target(r.url)
	if err != nil {
		f.plan.note(r.file, r.line, true, "%v", err)
		return
	}
	if _, fragment, ok := strings.Cut(r.url, "#"); ok {
		for part := range strings.SplitSeq(fragment, "&") {
			name, value, _ := strings.Cut(part, "=")
			if d, err := ParseDigest(name + ":" + value); err == nil {
				it.Digest = d
			}
		}
	}
	if len(r.hashes) > 0 {
		it.Digest = r.hashes[0]
	}
	f.plan.add(seen, it)
}

// page is a project's page in one index.
type page struct {
	index Item
	files []simpleFile
}

// pages gets the project's page from every index. That one of several does not have
// the project is no failure.
func (f *requirementsFile) pages(ctx context.Context, r requirement) ([]page, error) {
	var all []page
	var problems []error
	for _, index := range f.indexes {
		it, err := target(slashed(index))
		if err != nil {
			problems = append(problems, err)
			continue
		}
		it.URL += r.name + "/"
		it = it.withHeader(pipFields())
		res, err := f.planner.Get(ctx, it)
		var files []simpleFile
		switch {
		case err != nil:
		case res.Status == http.StatusNotFound:
			err = fmt.Errorf("%s: not in this index", it.URL)
		case res.Status != http.StatusOK:
			err = fmt.Errorf("%s: status %d", it.URL, res.Status)
		default:
			files, err = parseSimple(res)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", r.name, err))
			continue
		}
		all = append(all, page{index: it, files: files})
	}
	if len(all) > 0 {
		return all, nil
	}
	return nil, errors.Join(problems...)
}

// choose adds the files that have one of the requirement's digests.
func (f *requirementsFile) choose(seen map[string]bool, r requirement, pages []page) {
	if len(pages) == 0 {
		return // told already
	}
	missing := slices.Clone(r.hashes)
	for _, pg := range pages {
		listed := false
		for _, file := range pg.files {
			i := slices.IndexFunc(r.hashes, func(d Digest) bool { return slices.Contains(file.hashes, d) })
			if i < 0 {
				continue
			}
			items, err := file.items(pg.index, r.hashes[i])
			if err != nil {
				f.plan.note(r.file, r.line, true, "%s: %v", r.name, err)
				continue
			}
			if !listed {
				listed = true
				f.plan.add(seen, pg.index)
			}
			for _, it := range items {
				f.plan.add(seen, it)
			}
			missing = slices.DeleteFunc(missing, func(d Digest) bool { return d == r.hashes[i] })
		}
	}
	switch {
	case len(missing) == len(r.hashes):
		f.plan.note(r.file, r.line, true, "%s: the index lists no file with any of its %d digests", r.name, len(r.hashes))
	case len(missing) > 0:
		// Files that were yanked and deleted, or are of another index.
		f.plan.note(r.file, r.line, false, "%s: the index lists no file with %d of its %d digests", r.name, len(missing), len(r.hashes))
	}
}

// parse reads one file.
func (f *requirementsFile) parse(name, text string) {
	for line, words := range logicalLines(text) {
		if err := f.line(name, line, words); err != nil {
			f.plan.note(name, line, true, "%v", err)
		}
	}
}

// logicalLines yields the lines of a requirements file without comments, joined
// where one ends in a backslash, with the number of their first line.
func logicalLines(text string) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		var joined strings.Builder
		first, number := 0, 0
		for raw := range strings.Lines(text) {
			number++
			line := strings.TrimRight(raw, "\r\n")
			comment := strings.HasPrefix(strings.TrimLeft(line, " \t"), "#")
			if first == 0 {
				first = number
			}
			if head, more := strings.CutSuffix(line, "\\"); more && !comment {
				joined.WriteString(head)
				continue
			}
			if comment {
				line = " " + line // as pip does, so that it is one also behind a continuation
			}
			joined.WriteString(line)
			if s := strings.TrimSpace(withoutComment(joined.String())); s != "" && !yield(first, s) {
				return
			}
			joined.Reset()
			first = 0
		}
		if s := strings.TrimSpace(withoutComment(joined.String())); s != "" {
			yield(first, s)
		}
	}
}

// withoutComment cuts at a # at the beginning or after white space.
func withoutComment(s string) string {
	for i := range len(s) {
		if s[i] == '#' && (i == 0 || s[i-1] == ' ' || s[i-1] == '\t') {
			return s[:i]
		}
	}
	return s
}

// line reads a logical line: an option or a requirement.
func (f *requirementsFile) line(file string, number int, text string) error {
	words, err := splitWords(expand(text))
	if err != nil || len(words) == 0 {
		return err
	}
	if !strings.HasPrefix(words[0], "-") {
		return f.requirement(file, number, words)
	}
	return f.option(file, number, words)
}

// expand replaces ${NAME} by the environment, as pip does: names in upper case only.
func expand(s string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(s, "${")
		name, after, closed := strings.Cut(rest, "}")
		if !ok || !closed {
			b.WriteString(s)
			return b.String()
		}
		value := os.Getenv(name)
		b.WriteString(before)
		if value == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			b.WriteString("${" + name + "}")
		} else {
			b.WriteString(value)
		}
		s = after
	}
}

// splitWords splits at white space outside quotes.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	var quote rune
	for _, r := range s {
		switch {
		case quote != 0 && r == quote:
			quote = 0
			word.WriteRune(r)
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, inWord = r, true
			word.WriteRune(r)
		case r == ' ' || r == '\t':
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			inWord = true
			word.WriteRune(r)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quotation mark %c is not closed", quote)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// optionValue reads "--name=value", "--name value" and, for short ones, "-nvalue".
func optionValue(words []string) (name, value string, rest []string) {
	name, value, found := strings.Cut(words[0], "=")
	rest = words[1:]
	if found {
		return name, unquote(value), rest
	}
	if len(name) > 2 && !strings.HasPrefix(name, "--") {
		return name[:2], unquote(name[2:]), rest
	}
	if len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return name, unquote(rest[0]), rest[1:]
	}
	return name, "", rest
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

func (f *requirementsFile) option(file string, number int, words []string) error {
	name, value, _ := optionValue(words)
	switch name {
	case "-i", "--index-url", "--pypi-url":
		if !f.replace {
			f.indexes = slices.Insert(f.indexes, 0, value)
		} else {
			f.indexes[0] = value
		}
		f.replace = true
	case "--extra-index-url":
		f.indexes = append(f.indexes, value)
	case "--no-index":
		f.none = true
	case "-r", "--requirement":
		return f.include(file, value)
	case "-c", "--constraint":
		f.plan.note(file, number, false, "constraints (%s) are not read: they name nothing that is installed", value)
	case "-e", "--editable":
		f.plan.note(file, number, false, "%s is editable: it does not come from an index", value)
	case "-f", "--find-links":
		f.plan.note(file, number, false, "--find-links is not followed")
	}
	return nil // all others choose among files, which the hashes do already
}

func (f *requirementsFile) include(file, other string) error {
	name := beside(file, other)
	if f.visited[name] {
		return nil
	}
	if len(f.visited) > maxIncluded {
		return fmt.Errorf("more than %d files are included", maxIncluded)
	}
	f.visited[name] = true
	text, err := f.planner.read(name)
	if err != nil {
		return err
	}
	f.parse(name, text)
	return nil
}

func (f *requirementsFile) requirement(file string, number int, words []string) error {
	r := requirement{file: file, line: number}
	var spec []string
	for len(words) > 0 {
		if !strings.HasPrefix(words[0], "--") {
			spec = append(spec, words[0])
			words = words[1:]
			continue
		}
		name, value, rest := optionValue(words)
		words = rest
		if name != "--hash" {
			continue
		}
		d, err := ParseDigest(value)
		if err != nil {
			return fmt.Errorf("--hash=%s: %w", value, err)
		}
		r.hashes = append(r.hashes, d)
	}
	text := strings.Join(spec, " ")
	name, direct, isURL := directURL(text)
	if isURL {
		r.url = direct
		if scheme, _, _ := strings.Cut(direct, "://"); scheme != "https" && scheme != "http" {
			f.plan.note(file, number, false, "%s does not come from an index", withoutUser(direct))
			return nil
		}
		f.found = append(f.found, r)
		return nil
	}
	if name == "" {
		f.plan.note(file, number, false, "%s is a local path", text)
		return nil
	}
	r.name = normalName(name)
	f.found = append(f.found, r)
	return nil
}

// directURL takes a requirement apart: a URL, with or without "name @" before it
// (PEP 508), or the name of a project; neither is a path.
func directURL(spec string) (name, url string, ok bool) {
	if before, after, found := strings.Cut(spec, "@"); found {
		after = strings.TrimSpace(after)
		if projectName(before) != "" && strings.Contains(after, "://") && !strings.Contains(before, "://") {
			url, _, _ = strings.Cut(after, " ") // an environment marker may follow
			return "", url, true
		}
	}
	if first, _, _ := strings.Cut(spec, " "); strings.Contains(first, "://") {
		return "", first, true
	}
	return projectName(spec), "", false
}

// projectName returns the name at the beginning of a requirement (PEP 508), "" when
// it is a path.
func projectName(spec string) string {
	end := strings.IndexFunc(spec, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
	})
	name, rest := spec, ""
	if end >= 0 {
		name, rest = spec[:end], strings.TrimSpace(spec[end:])
	}
	if name == "" || strings.ContainsAny(name[:1], "._-") || rest != "" && !strings.ContainsAny(rest[:1], "[=<>!~;(@,") {
		return ""
	}
	for _, suffix := range []string{".whl", ".tar.gz", ".zip"} {
		if strings.HasSuffix(name, suffix) {
			return ""
		}
	}
	return name
}

// normalName is PEP 503's normalisation.
func normalName(name string) string {
	var b strings.Builder
	dash := false
	for _, r := range strings.ToLower(name) {
		if r == '-' || r == '_' || r == '.' {
			dash = true
			continue
		}
		if dash {
			b.WriteByte('-')
			dash = false
		}
		b.WriteRune(r)
	}
	if dash {
		b.WriteByte('-')
	}
	return b.String()
}
