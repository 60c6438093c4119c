package cache

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"sync"

	"larder/cache/store"
)

// selected is a stored response that a request's key selects.
type selected struct {
	key  store.Key
	rec  *record
	size int64
	sum  [32]byte
	obj  *store.Object // held until released; nil in a copy for a fill
	// pinned: the store carries it forward, used or not.
	pinned bool
}

// facts returns s without the pin.
func (s *selected) facts() *selected {
	if s == nil {
		return nil
	}
	return &selected{key: s.key, rec: s.rec, size: s.size, sum: s.sum}
}

func (s *selected) release() {
	if s != nil && s.obj != nil {
		s.obj.Release()
		s.obj = nil
	}
}

// without returns s, or a copy that shares its pin, with a header that lacks fields.
func (s *selected) without(fields []string) *selected {
	if len(fields) == 0 {
		return s
	}
	rec, cut := *s.rec, *s
	rec.header = maps.Clone(rec.header)
	for _, name := range fields {
		rec.header.Del(name)
	}
	cut.rec = &rec
	return &cut
}

// found is what the store knows about a request's target URI.
type found struct {
	*selected            // nil: no stored response is selected
	sets      [][]string // Vary field sets known for the URI
	other     bool       // responses are stored, under other values of those fields
}

// lookup finds the stored response for a request (RFC 9111, section 4.1): at the
// primary key, or where the record there says that the response varies.
func (c *Cache) lookup(primary store.Key, rule *Rule, header http.Header) found {
	s := c.load(primary)
	if s == nil {
		return found{}
	}
	required := rule.required()
	if s.rec.kind == kindObject {
		if len(required) > 0 {
			// Stored before the rule asked for fields in the key.
			s.release()
			return found{other: true}
		}
		return found{selected: c.ifSmall(s, rule)}
	}
	variants := s.rec
	s.release()
	f := found{sets: variants.sets, other: true}
	for _, set := range variants.sets {
		if !containsAll(set, required) {
			continue
		}
		v := c.ifSmall(c.load(variantKey(primary, variants.nonce, set, fieldSource(header))), rule)
		if v == nil || v.rec.kind != kindObject || f.selected != nil && !newer(v.rec, f.rec) {
			v.release()
			continue
		}
		f.selected.release()
		f.selected = v
	}
	return f
}

// ifSmall returns s unless the rule has become one that stores nothing so large: then it
// goes.
func (c *Cache) ifSmall(s *selected, rule *Rule) *selected {
	if s == nil || rule.MaxObject <= 0 || s.size <= rule.MaxObject || s.rec.kind != kindObject {
		return s
	}
	c.drop(s.key)
	s.release()
	return nil
}

// newer orders the stored responses that a request selects: RFC 9111, section 4, wants
// the most recent one by Date.
func newer(a, b *record) bool {
	x, y := dateOf(a), dateOf(b)
	return x.After(y) || x.Equal(y) && a.received.After(b.received)
}

// load returns the record at key, or nil. A record that cannot be read is no reason
// to fail: the response can be fetched.
func (c *Cache) load(key store.Key) *selected {
	obj, err := c.store.Get(key)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.storeFailed(c.log, "get", err)
		}
		return nil
	}
	v, err := obj.Value(decodeShared)
	if err != nil {
		obj.Release()
		c.storeFailed(c.log, "decode", err)
		c.drop(key)
		return nil
	}
	return &selected{key: key, rec: v.(*loaded).record, size: obj.Size(), sum: obj.SHA256(), obj: obj, pinned: obj.Pinned()}
}

// variantLocks serialise changes to the variants of one URI. They are few, since
// changes are.
type variantLocks [64]sync.Mutex

// storageKey returns the key under which a response selected by set is stored, after
// making sure that the URI's primary record leads there, for as long as the rule keeps
// the response.
func (c *Cache) storageKey(primary store.Key, rule *Rule, set []string, sent http.Header) (store.Key, error) {
	if len(set) == 0 {
		return primary, nil
	}
	lock := &c.variants[int(primary[0])%len(c.variants)]
	lock.Lock()
	defer lock.Unlock()
	rec := &record{kind: kindVariants}
	old := c.load(primary)
	if old != nil && old.rec.kind == kindVariants {
		rec = old.rec
	} else {
		rand.Read(rec.nonce[:]) // never fails
	}
	old.release()
	if len(rec.sets) == 0 || !slices.Equal(rec.sets[0], set) || old.pinned != rule.Pin {
		sets := [][]string{set}
		for _, s := range rec.sets {
			if !slices.Equal(s, set) && len(sets) < maxVariantSets {
				sets = append(sets, s)
			}
		}
		rec.sets = sets
		if err := c.store.PutWith(primary, rec.encode(), rule.keeping()); err != nil {
			return store.Key{}, err
		}
	}
	return variantKey(primary, rec.nonce, set, fieldSource(sent)), nil
}

// pinVariants pins the list of variants at a primary key, without which none of them
// would be found.
func (c *Cache) pinVariants(primary store.Key, rule *Rule) {
	lock := &c.variants[int(primary[0])%len(c.variants)]
	lock.Lock()
	defer lock.Unlock()
	s := c.load(primary)
	if s == nil {
		return
	}
	defer s.release()
	if s.rec.kind != kindVariants || s.pinned {
		return
	}
	if err := c.store.PutWith(primary, s.rec.encode(), rule.keeping()); err != nil {
		c.storeFailed(c.log, "pin variants", err)
	}
}

// flightSet lists the request fields in which requests must agree to wait for the same
// fill: those of forwardSet. Under Immutable they may differ in Accept-Encoding as long
// as no response is known to depend on it: artifacts come in no coding mostly, and who
// cannot use what the others get finds out by its header (passage.shared).
func (f found) flightSet(rule *Rule, learned []string) []string {
	set := f.forwardSet(rule, learned)
	const coding = "accept-encoding"
	if rule.Mode != Immutable || slices.Contains(learned, coding) || slices.Contains(rule.required(), coding) {
		return set
	}
	for _, s := range f.sets {
		if slices.Contains(s, coding) {
			return set
		}
	}
	return slices.DeleteFunc(set, func(n string) bool { return n == coding })
}

// forwardSet lists the request fields that a fill carries on: what the rule and the
// known responses vary by, what the request has learned, and always Accept-Encoding.
func (f found) forwardSet(rule *Rule, learned []string) []string {
	set := append([]string{"accept-encoding"}, rule.required()...)
	set = append(set, learned...)
	for _, s := range f.sets {
		set = append(set, s...)
	}
	return fieldSet(set)
}
