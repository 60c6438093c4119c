package cache

import "container/list"

// recent is a map that holds at most limit entries: for one more, the one that was used
// least recently goes. It is not safe for concurrent use.
type recent[K comparable, V any] struct {
	limit int
	byKey map[K]*list.Element
	order list.List // of recentEntry, the latest used first
}

type recentEntry[K comparable, V any] struct {
	key   K
	value V
}

// get returns the value at key and counts as use.
func (r *recent[K, V]) get(key K) (value V, ok bool) {
	e, ok := r.byKey[key]
	if !ok {
		return value, false
	}
	r.order.MoveToFront(e)
	return e.Value.(*recentEntry[K, V]).value, true
}

// put sets the value at key.
func (r *recent[K, V]) put(key K, value V) {
	if e, ok := r.byKey[key]; ok {
		e.Value.(*recentEntry[K, V]).value = value
		r.order.MoveToFront(e)
		return
	}
	if r.byKey == nil {
		r.byKey = make(map[K]*list.Element)
	}
	if len(r.byKey) >= r.limit {
		last := r.order.Back()
		r.order.Remove(last)
		delete(r.byKey, last.Value.(*recentEntry[K, V]).key)
	}
	r.byKey[key] = r.order.PushFront(&recentEntry[K, V]{key, value})
}

// remove forgets what is at key.
func (r *recent[K, V]) remove(key K) {
	if e, ok := r.byKey[key]; ok {
		r.order.Remove(e)
		delete(r.byKey, key)
	}
}
