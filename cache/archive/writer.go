package archive

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// A Writer writes an archive. It is used by one goroutine. After an error that is no
// *DamagedError the archive is of no use.
type Writer struct {
	tar    *tar.Writer
	totals Totals
	sums   bytes.Buffer // lines since the last list
	listed int          // number of lines in sums
	lists  int
}

// NewWriter begins an archive on w.
func NewWriter(w io.Writer) (*Writer, error) {
	a := &Writer{tar: tar.NewWriter(w)}
	if err := a.json(formatFile, header{Format: formatName, Version: Version}); err != nil {
		return nil, err
	}
	return a, nil
}

// Body writes a body. Bodies are written in the order of their digests, each once,
// and each is followed by its responses.
//
// If body ends early, fails, or does not match sum, the file is filled up with
// zeros and a *DamagedError is returned: readers will refuse it and the responses
// that belong to it, and the archive can go on.
func (a *Writer) Body(sum [32]byte, size int64, body io.Reader) error {
	name := bodyName(sum)
	if err := a.open(name, size); err != nil {
		return err
	}
	digest := sha256.New()
	to := &failing{w: a.tar}
	n, err := io.Copy(io.MultiWriter(to, digest), io.LimitReader(body, size))
	if to.err != nil {
		return fmt.Errorf("write %s: %w", name, to.err)
	}
	a.totals.Bodies++
	a.totals.Bytes += size
	var damage error
	if err != nil || n < size || [32]byte(digest.Sum(nil)) != sum {
		a.totals.Damaged++
		damage = errors.Join(&DamagedError{Name: name}, err)
		if _, err := io.CopyN(a.tar, zeros{}, size-n); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return errors.Join(a.list(name, sum), damage)
}

// Responses writes what was answered with the body before. It sorts rs, and puts
// them into as many files as is good for readers.
func (a *Writer) Responses(sum [32]byte, rs []Response) error {
	type encoded struct {
		url  string
		text []byte
	}
	all := make([]encoded, len(rs))
	for i := range rs {
		r := rs[i]
		r.Requested, r.Received = r.Requested.UTC(), r.Received.UTC()
		text, err := json.Marshal(&r)
		if err != nil {
			return fmt.Errorf("write the response to %s: %w", r.URL, err)
		}
		all[i] = encoded{r.URL, text}
	}
	slices.SortFunc(all, func(x, y encoded) int {
		return cmp.Or(cmp.Compare(x.url, y.url), bytes.Compare(x.text, y.text))
	})
	var file bytes.Buffer
	for i, e := range all {
		if file.Len() == 0 {
			file.WriteString("[\n")
		} else {
			file.WriteString(",\n")
		}
		file.Write(e.text)
		if i < len(all)-1 && file.Len() < cutJSON {
			continue
		}
		file.WriteString("\n]\n")
		own := sha256.Sum256(file.Bytes())
		if err := a.file(responsesName(sum, own), file.Bytes()); err != nil {
			return err
		}
		if err := a.list(responsesName(sum, own), own); err != nil {
			return err
		}
		file.Reset()
	}
	a.totals.Responses += int64(len(rs))
	return nil
}

// Close writes the end of the archive. It does not close the writer below.
func (a *Writer) Close() (Totals, error) {
	if err := a.flushList(); err != nil {
		return a.totals, err
	}
	if err := a.json(endFile, a.totals); err != nil {
		return a.totals, err
	}
	if err := a.tar.Close(); err != nil {
		return a.totals, fmt.Errorf("write the end of the archive: %w", err)
	}
	return a.totals, nil
}

// list notes a file for the next list of digests.
func (a *Writer) list(name string, sum [32]byte) error {
	fmt.Fprintf(&a.sums, "%x  %s\n", sum, name)
	if a.listed++; a.listed < sumsEvery {
		return nil
	}
	return a.flushList()
}

func (a *Writer) flushList() error {
	if a.listed == 0 {
		return nil
	}
	a.lists++
	err := a.file(sumsName(a.lists), a.sums.Bytes())
	a.sums.Reset()
	a.listed = 0
	return err
}

func (a *Writer) json(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return a.file(name, append(text, '\n'))
}

func (a *Writer) file(name string, content []byte) error {
	if err := a.open(name, int64(len(content))); err != nil {
		return err
	}
	if _, err := a.tar.Write(content); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// open begins a file. Its time is always the same one, since an archive says
// nothing of its making.
func (a *Writer) open(name string, size int64) error {
	err := a.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0),
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func bodyName(sum [32]byte) string { return objectsDir + hex.EncodeToString(sum[:]) + "/" + bodyFile }

func responsesName(body, own [32]byte) string {
	return objectsDir + hex.EncodeToString(body[:]) + "/" + hex.EncodeToString(own[:]) + jsonSuffix
}

func sumsName(n int) string { return fmt.Sprintf("%s%06d", sumsPrefix, n) }

// failing remembers its writer's error, to tell it from the reader's.
type failing struct {
	w   io.Writer
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		f.err = err
	}
	return n, err
}

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
