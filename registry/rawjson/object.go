package rawjson

import (
	"fmt"
	"iter"
)

// Object is a JSON object whose members keep their order. The zero Object is empty.
// It is not safe for concurrent use while it is changed.
type Object struct {
	members []member
	at      map[string]int // of members, when there are many
}

type member struct {
	name  string
	key   Value // the name as it is written
	value Value
}

// few is how many members are searched one by one.
const few = 16

func (o *Object) index() {
	if len(o.members) <= few {
		o.at = nil
		return
	}
	o.at = make(map[string]int, len(o.members))
	for i, m := range o.members {
		o.at[m.name] = i
	}
}

func (o *Object) noNameTwice() error {
	for i, m := range o.members {
		if o.find(m.name) != i {
			return fmt.Errorf("the name %q is there twice", m.name)
		}
	}
	return nil
}

func (o *Object) find(name string) int {
	if o.at != nil {
		if i, ok := o.at[name]; ok {
			return i
		}
		return -1
	}
	for i, m := range o.members {
		if m.name == name {
			return i
		}
	}
	return -1
}

// Len is the number of members.
func (o *Object) Len() int { return len(o.members) }

// Get returns the value of a member, nil if there is none.
func (o *Object) Get(name string) Value {
	if i := o.find(name); i >= 0 {
		return o.members[i].value
	}
	return nil
}

// Has reports whether there is a member of that name, be it null.
func (o *Object) Has(name string) bool { return o.find(name) >= 0 }

// Set changes a member in its place, or adds it as the last.
func (o *Object) Set(name string, v Value) {
	if i := o.find(name); i >= 0 {
		o.members[i].value = v
		return
	}
	o.members = append(o.members, member{name: name, key: OfString(name), value: v})
	if o.at != nil {
		o.at[name] = len(o.members) - 1
	} else if len(o.members) > few {
		o.index()
	}
}

// Keep drops the members for which keep is false.
func (o *Object) Keep(keep func(name string, v Value) bool) {
	kept := o.members[:0:0]
	for _, m := range o.members {
		if keep(m.name, m.value) {
			kept = append(kept, m)
		}
	}
	o.members = kept
	o.index()
}

// Delete drops one member, if it is there.
func (o *Object) Delete(name string) {
	o.Keep(func(n string, _ Value) bool { return n != name })
}

// All yields the members in their order.
func (o *Object) All() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for _, m := range o.members {
			if !yield(m.name, m.value) {
				return
			}
		}
	}
}

// Value puts the object together, without space between.
func (o *Object) Value() Value {
	size := 2
	for _, m := range o.members {
		size += len(m.key) + len(m.value) + 2
	}
	b := append(make([]byte, 0, size), '{')
	for i, m := range o.members {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, m.key...)
		b = append(b, ':')
		b = append(b, m.value...)
	}
	return append(b, '}')
}
