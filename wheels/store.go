package wheels

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Store keeps wheels in a folder. It is safe for concurrent use, by one process.
type Store struct {
	root *os.Root
	max  int64

	mu   sync.RWMutex // guards the rest, and who writes to the folder
	by   map[string][]Wheel
	size int64
}

// ErrFull is what Add says when the store has no room.
var ErrFull = errors.New("there is no room for it")

// Open opens the store in a folder, which is made if it is not there, with at most
// maxSize bytes of wheels (0: no bound). Close it after use.
func Open(folder string, maxSize int64, logger *slog.Logger) (*Store, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("open the store of wheels: %w", err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("open the store of wheels: %w", err)
	}
	s := &Store{root: root, max: maxSize, by: make(map[string][]Wheel)}
	if err := s.load(logger); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store of wheels %s: %w", folder, err), root.Close())
	}
	return s, nil
}

// Close gives the folder back.
func (s *Store) Close() error { return s.root.Close() }

const (
	wheelEnding    = ".whl"
	metadataEnding = ".metadata"
	sidecarEnding  = ".json"
	partEnding     = ".part"
)

// load reads the sidecars. What was being written when larder ended goes.
func (s *Store) load(logger *slog.Logger) error {
	entries, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, partEnding) {
			_ = s.root.Remove(name) // tried again at the next start
			continue
		}
		digest, ok := strings.CutSuffix(name, sidecarEnding)
		if !ok || !isDigest(digest) {
			continue
		}
		w, err := s.read(digest)
		if err != nil {
			logger.Warn("a wheel is left out", "file", filepath.Join(s.root.Name(), name), "err", err)
			continue
		}
		s.insert(*w)
	}
	return nil
}

func (s *Store) read(digest string) (*Wheel, error) {
	b, err := s.root.ReadFile(digest + sidecarEnding)
	if err != nil {
		return nil, err
	}
	var w Wheel
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	if _, err := ParseName(w.File); err != nil {
		return nil, err
	}
	info, err := s.root.Stat(digest + wheelEnding)
	switch {
	case err != nil:
		return nil, err
	case w.SHA256 != digest || w.Size != info.Size():
		return nil, errors.New("its sidecar is not about it")
	}
	return &w, nil
}

func isDigest(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// insert adds to what is in memory. The caller holds mu, or is alone. A slice that was
// given out is not changed.
func (s *Store) insert(w Wheel) {
	all := append(slices.Clip(s.by[w.Project]), w)
	slices.SortFunc(all, func(a, b Wheel) int {
		return cmp.Or(strings.Compare(a.File, b.File), strings.Compare(a.SHA256, b.SHA256))
	})
	s.by[w.Project] = all
	s.size += w.Size
}

// Of returns the wheels of a project, whose name is normalized, by file name. Nobody may
// change them.
func (s *Store) Of(project string) []Wheel {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.by[project]
}

// All returns all wheels, by project and file name.
func (s *Store) All() []Wheel {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []Wheel
	for _, of := range s.by {
		all = append(all, of...)
	}
	slices.SortFunc(all, func(a, b Wheel) int {
		return cmp.Or(strings.Compare(a.Project, b.Project), strings.Compare(a.File, b.File))
	})
	return all
}

// Find returns the wheel of a project by its digest and name. The error is
// fs.ErrNotExist if there is none.
func (s *Store) Find(digest, file string) (*Wheel, error) {
	parsed, err := ParseName(file)
	if err == nil {
		for _, w := range s.Of(normal(parsed)) {
			if w.SHA256 == digest && w.File == file {
				return &w, nil
			}
		}
	}
	return nil, fmt.Errorf("wheel %s: %w", file, fs.ErrNotExist)
}

// Content opens a wheel, or its METADATA. The caller closes it.
func (s *Store) Content(w *Wheel, metadata bool) (*os.File, error) {
	ending := wheelEnding
	if metadata {
		ending = metadataEnding
	}
	return s.root.Open(w.SHA256 + ending)
}

// Add takes a wheel in under its name. The sidecar comes last, when everything else is
// on the disk. One with the same name is replaced; the same content again only gets
// what is new of source.
func (s *Store) Add(name string, content io.Reader, source *Source) (*Wheel, error) {
	if _, err := ParseName(name); err != nil {
		return nil, err
	}
	part, err := s.receive(content)
	if err != nil {
		return nil, fmt.Errorf("add %s: %w", name, err)
	}
	defer s.root.Remove(part) // gone, if all went well
	w, metadata, err := s.inspect(part, name)
	if err != nil {
		return nil, err
	}
	w.Source, w.Added = source, time.Now().UTC().Truncate(time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.commit(part, w, metadata); err != nil {
		return nil, fmt.Errorf("add %s: %w", name, err)
	}
	return w, nil
}

// receive writes what comes to a file of its own.
func (s *Store) receive(content io.Reader) (part string, err error) {
	s.mu.RLock()
	room := s.max - s.size
	s.mu.RUnlock()
	if s.max <= 0 {
		room = 1 << 40
	}
	part = fmt.Sprintf("%d%s", time.Now().UnixNano(), partEnding)
	f, err := s.root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	n, err := io.Copy(f, io.LimitReader(content, room+1))
	if err == nil && n > room {
		err = fmt.Errorf("%w: the wheels take at most %d bytes together", ErrFull, s.max)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, s.root.Remove(part))
	}
	return part, nil
}

func (s *Store) inspect(part, name string) (*Wheel, []byte, error) {
	f, err := s.root.Open(part)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	return inspect(name, f, info.Size())
}

// commit makes a wheel part of the store. The caller holds mu.
func (s *Store) commit(part string, w *Wheel, metadata []byte) error {
	for _, old := range s.by[w.Project] {
		switch {
		case old.SHA256 == w.SHA256:
			if w.Source == nil {
				w.Source = old.Source
			}
			s.forget(old) // its sidecar is written anew
		case old.File == w.File:
			if err := s.remove(old); err != nil {
				return err
			}
		}
	}
	if s.max > 0 && s.size+w.Size > s.max {
		return fmt.Errorf("%w: the wheels take at most %d bytes together", ErrFull, s.max)
	}
	if err := s.write(w.SHA256+metadataEnding, metadata); err != nil {
		return err
	}
	if err := s.root.Rename(part, w.SHA256+wheelEnding); err != nil {
		return err
	}
	sidecar, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if err := s.write(w.SHA256+sidecarEnding, sidecar); err != nil {
		return err
	}
	s.insert(*w)
	return nil
}

// write puts a file in place whole.
func (s *Store) write(name string, b []byte) error {
	f, err := s.root.OpenFile(name+partEnding, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, bytes.NewReader(b))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return s.root.Rename(name+partEnding, name)
}

// Remove removes the wheels that match, a glob over file names or a digest, and returns
// them.
func (s *Store) Remove(match string) ([]Wheel, error) {
	if _, err := path.Match(match, ""); err != nil {
		return nil, fmt.Errorf("%q is no pattern: %w", match, err)
	}
	var removed []Wheel
	for _, w := range s.All() {
		if ok, _ := path.Match(match, w.File); !ok && w.SHA256 != match {
			continue
		}
		s.mu.Lock()
		err := s.remove(w)
		s.mu.Unlock()
		if err != nil {
			return removed, fmt.Errorf("remove %s: %w", w.File, err)
		}
		removed = append(removed, w)
	}
	return removed, nil
}

// remove takes a wheel out, the sidecar first. The caller holds mu.
func (s *Store) remove(w Wheel) error {
	if err := s.root.Remove(w.SHA256 + sidecarEnding); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.forget(w)
	var err error
	for _, ending := range []string{wheelEnding, metadataEnding} {
		if e := s.root.Remove(w.SHA256 + ending); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// forget takes a wheel out of memory. The caller holds mu.
func (s *Store) forget(w Wheel) {
	s.by[w.Project] = slices.DeleteFunc(slices.Clone(s.by[w.Project]), func(o Wheel) bool { return o.SHA256 == w.SHA256 })
	if len(s.by[w.Project]) == 0 {
		delete(s.by, w.Project)
	}
	s.size -= w.Size
}
