package ca

import (
	"container/list"
	"crypto/tls"
	"sync"
	"time"
)

// leafCache holds the leaves used last, bounded by count. It is safe for
// concurrent use.
type leafCache struct {
	max int

	mu     sync.Mutex
	recent *list.List // of *leafEntry, the one used last in front
	byName map[string]*list.Element
}

type leafEntry struct {
	name    string
	cert    *tls.Certificate
	renewAt time.Time
}

func newLeafCache(size int) *leafCache {
	return &leafCache{max: size, recent: list.New(), byName: make(map[string]*list.Element)}
}

// get returns the leaf for name, or nil if there is none or if it is due for
// renewal at now.
func (c *leafCache) get(name string, now time.Time) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.byName[name]
	if !ok {
		return nil
	}
	entry := el.Value.(*leafEntry)
	if !now.Before(entry.renewAt) {
		c.remove(el)
		return nil
	}
	c.recent.MoveToFront(el)
	return entry.cert
}

// add puts a leaf in front, and out those that exceed the bound.
func (c *leafCache) add(name string, cert *tls.Certificate, renewAt time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.byName[name]; ok {
		c.remove(el)
	}
	c.byName[name] = c.recent.PushFront(&leafEntry{name, cert, renewAt})
	for c.recent.Len() > c.max {
		c.remove(c.recent.Back())
	}
}

// remove is called with mu held.
func (c *leafCache) remove(el *list.Element) {
	c.recent.Remove(el)
	delete(c.byName, el.Value.(*leafEntry).name)
}

func (c *leafCache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent.Len()
}

func (c *leafCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recent.Init()
	clear(c.byName)
}
