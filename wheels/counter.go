package wheels

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"larder/registry/pypi"
)

const (
	// maxCounted bounds how many source distributions are counted. For another, the
	// one that was fetched least goes, and the other begins with its count (space-saving,
	// Metwally et al. 2005): what is fetched often is never lost, and counted too high
	// at most by that.
	maxCounted = 4096
	// saveEvery is how much is lost with the process at most.
	saveEvery = time.Minute
)

// Counted is a source distribution that was fetched.
type Counted struct {
	Project string `json:"project"`
	Version string `json:"version"`
	File    string `json:"file"`
	// URL is where it was fetched last, without query.
	URL string `json:"url"`
	// Count is how often it was fetched, and Bytes how much that was.
	Count int64     `json:"count"`
	Bytes int64     `json:"bytes"`
	Last  time.Time `json:"last"`
}

// Counter counts which source distributions are fetched, through restarts. It is safe
// for concurrent use.
type Counter struct {
	file   string
	logger *slog.Logger
	stop   chan struct{}
	done   sync.WaitGroup

	mu    sync.Mutex // guards the rest
	files map[string]*Counted
	dirty bool
}

// counterFormat is the version of the file.
const counterFormat = 1

type counterFile struct {
	Format int        `json:"format"`
	Files  []*Counted `json:"files"`
}

// OpenCounter returns a Counter that goes on from what a file holds, in which it saves
// now and then and in Close. A file that cannot be read is begun anew.
func OpenCounter(file string, logger *slog.Logger) *Counter {
	c := &Counter{file: file, logger: logger, stop: make(chan struct{}), files: make(map[string]*Counted)}
	if err := c.load(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		logger.Warn("source distributions are counted anew", "file", file, "err", err)
	}
	c.done.Go(c.saving) // ends with Close
	return c
}

func (c *Counter) load() error {
	b, err := os.ReadFile(c.file)
	if err != nil {
		return err
	}
	var f counterFile
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	if f.Format != counterFormat {
		return fmt.Errorf("it is of format %d", f.Format)
	}
	for _, n := range f.Files[:min(len(f.Files), maxCounted)] {
		if n != nil {
			c.files[n.URL] = n
		}
	}
	return nil
}

func (c *Counter) saving() {
	ticker := time.NewTicker(saveEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := c.save(); err != nil {
				c.logger.Warn("counts of source distributions are not saved", "err", err)
			}
		case <-c.stop:
			return
		}
	}
}

// Close saves.
func (c *Counter) Close() error {
	close(c.stop)
	c.done.Wait()
	return c.save()
}

func (c *Counter) save() error {
	all := c.Top(0)
	c.mu.Lock()
	dirty := c.dirty
	c.dirty = false
	c.mu.Unlock()
	if !dirty {
		return nil
	}
	f := counterFile{Format: counterFormat, Files: make([]*Counted, len(all))}
	for i := range all {
		f.Files[i] = &all[i]
	}
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.file), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(c.file+partEnding, b, 0o600); err != nil {
		return err
	}
	return os.Rename(c.file+partEnding, c.file)
}

// Note counts a file that a client got whole, if it is a source distribution.
func (c *Counter) Note(target *url.URL, bytes int64) {
	name := target.Path[strings.LastIndexByte(target.Path, '/')+1:]
	if pypi.KindOf(name) != pypi.Sdist {
		return
	}
	readings := pypi.Readings(name)
	if len(readings) == 0 {
		return
	}
	plain := url.URL{Scheme: target.Scheme, Host: target.Host, Path: target.Path, RawPath: target.RawPath}
	key := plain.String()
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.files[key]
	if n == nil {
		n = &Counted{Project: pypi.Normalize(readings[0].Project), Version: readings[0].ParsedVersion().String(), File: name, URL: key}
		if len(c.files) >= maxCounted {
			n.Count = c.makeRoom()
		}
		c.files[key] = n
	}
	n.Count++
	n.Bytes += bytes
	n.Last = time.Now().UTC().Truncate(time.Second)
	c.dirty = true
}

// makeRoom drops what was fetched least, and returns its count. The caller holds mu.
func (c *Counter) makeRoom() int64 {
	var least *Counted
	for _, n := range c.files {
		if least == nil || n.Count < least.Count || n.Count == least.Count && n.Last.Before(least.Last) {
			least = n
		}
	}
	delete(c.files, least.URL)
	return least.Count
}

// Top returns those that were fetched most, n at most; 0: all.
func (c *Counter) Top(n int) []Counted {
	c.mu.Lock()
	all := make([]Counted, 0, len(c.files))
	for _, f := range c.files {
		all = append(all, *f)
	}
	c.mu.Unlock()
	slices.SortFunc(all, func(a, b Counted) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Project, b.Project), strings.Compare(a.File, b.File), strings.Compare(a.URL, b.URL))
	})
	if n > 0 && len(all) > n {
		all = all[:n]
	}
	return all
}
