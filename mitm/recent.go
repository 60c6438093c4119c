package mitm

import "container/list"

// recent is a map that forgets what was used least lately when there is more than fits.
// It is not safe for concurrent use.
type recent[K comparable, V any] struct {
	most  int
	items map[K]*list.Element
	order *list.List // of *recentItem, the one used last in front
}

type recentItem[K comparable, V any] struct {
	key   K
	value V
}

func newRecent[K comparable, V any](most int) *recent[K, V] {
	return &recent[K, V]{most: most, items: map[K]*list.Element{}, order: list.New()}
}

// get returns what is there, nil if nothing.
func (r *recent[K, V]) get(key K) *V {
	e, ok := r.items[key]
	if !ok {
		return nil
	}
	r.order.MoveToFront(e)
	return &e.Value.(*recentItem[K, V]).value
}

// use is get, with a zero value in the place of nothing. It is valid until the next
// call.
func (r *recent[K, V]) use(key K) *V {
	if v := r.get(key); v != nil {
		return v
	}
	if len(r.items) >= r.most {
		last := r.order.Back()
		delete(r.items, last.Value.(*recentItem[K, V]).key)
		r.order.Remove(last)
	}
	item := &recentItem[K, V]{key: key}
	r.items[key] = r.order.PushFront(item)
	return &item.value
}
