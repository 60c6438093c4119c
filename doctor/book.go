package doctor

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// Distrust is what the wire tells: its fields are those of mitm.Distrust, in their
// order, so that one converts to the other.
type Distrust struct {
	Time               time.Time
	Client             netip.Addr
	User, Run          string
	Host               string
	Via                string
	Tool, Title, Basis string
	JA4, UserAgent     string
	Reason             string
	Count              int
	Elsewhere          time.Time
	Until              time.Time
	By                 string
}

// Finding is a client, as far as it can be told apart, that does not trust larder for a
// host.
type Finding struct {
	// Client is its address; User the name that it has proved and Run the command of
	// `larder run` that it belongs to, "" if there is none.
	Client    netip.Addr
	User, Run string
	// Host is the server name.
	Host string
	// Tool is the likely program in a word, Title in a sentence; Basis says what that
	// rests on.
	Tool, Title, Basis string
	// JA4 and UserAgent are of the last time, "" if there was none.
	JA4, UserAgent string
	// Reason is the alert by which it refused, or what it did instead.
	Reason string
	// Count is how many handshakes it refused, First and Last when.
	Count       int64
	First, Last time.Time
	// Mended is when it has trusted larder for this host since; zero: it has not.
	Mended time.Time
	// Elsewhere is when it last trusted larder for another host; zero: never that is
	// known.
	Elsewhere time.Time
	// Pinned: it had trusted larder for another host when it refused this one, as far
	// as programs with the same TLS at one address can be told apart.
	Pinned bool
	// Until is until when its connections there are tunnelled, by the rule By; zero or
	// past: they are not.
	Until time.Time
	By    string
	// Do says what to do about it, See where more of that is.
	Do, See string
}

const (
	// maxFindings is how many are kept; of more, the one that was seen least lately
	// goes.
	maxFindings = 1000
	// keep is for how long after it was seen last a finding is kept.
	keep = 7 * 24 * time.Hour
)

// Book holds the findings of one larder. The zero value is empty and ready. It is safe
// for concurrent use.
type Book struct {
	mu    sync.Mutex // guards the rest
	found map[key]*list.Element
	order list.List // of *entry, the one seen last in front
}

// key is what tells findings apart.
type key struct {
	client             netip.Addr
	user, run          string
	host, tool, reason string
}

type entry struct {
	key key
	via string
	Finding
}

// Distrusted notes that a client has refused larder's certificate.
func (b *Book) Distrusted(d Distrust) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.use(key{d.Client, d.User, d.Run, d.Host, d.Tool, d.Reason})
	if e.First.IsZero() {
		e.First = d.Time
	}
	e.Client, e.User, e.Run, e.Host = d.Client, d.User, d.Run, d.Host
	e.Tool, e.Title, e.Basis, e.JA4, e.UserAgent, e.Reason = d.Tool, d.Title, d.Basis, d.JA4, d.UserAgent, d.Reason
	e.Count += int64(d.Count)
	e.Last, e.Mended = d.Time, time.Time{}
	e.via = d.Via
	if !d.Elsewhere.IsZero() {
		e.Elsewhere, e.Pinned = d.Elsewhere, true
	}
}

// use finds an entry, or makes room for it, and puts it in front. The caller holds mu.
func (b *Book) use(k key) *entry {
	if at, ok := b.found[k]; ok {
		b.order.MoveToFront(at)
		return at.Value.(*entry)
	}
	if b.found == nil {
		b.found = map[key]*list.Element{}
	}
	for len(b.found) >= maxFindings {
		b.drop(b.order.Back())
	}
	e := &entry{key: k}
	b.found[k] = b.order.PushFront(e)
	return e
}

func (b *Book) drop(at *list.Element) {
	delete(b.found, at.Value.(*entry).key)
	b.order.Remove(at)
}

// Trusted notes that a client which refused larder's certificate has taken one, for the
// same host or another.
func (b *Book) Trusted(d Distrust) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for at := b.order.Front(); at != nil; at = at.Next() {
		e := at.Value.(*entry)
		switch {
		case e.Client != d.Client || e.User != d.User || e.Run != d.Run || e.Tool != d.Tool:
		case e.Host == d.Host:
			e.Mended, e.Until = d.Time, time.Time{}
		default:
			e.Elsewhere = d.Time
		}
	}
}

// Tunnelled notes that a client's connections to a host are tunnelled for a while.
func (b *Book) Tunnelled(d Distrust) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for at := b.order.Front(); at != nil; at = at.Next() {
		if e := at.Value.(*entry); e.Client == d.Client && e.User == d.User && e.Run == d.Run && e.Tool == d.Tool && e.Host == d.Host {
			e.Until, e.By = d.Until, d.By
		}
	}
}

// Findings are those of the last days, newest first.
func (b *Book) Findings() []Finding {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	all := []Finding{}
	for at := b.order.Front(); at != nil; {
		e := at.Value.(*entry)
		next := at.Next()
		if now.Sub(e.Last) > keep {
			b.drop(at)
		} else {
			f := e.Finding
			f.Do, f.See = Advice(&f), see(f.Tool, e.via)
			all = append(all, f)
		}
		at = next
	}
	return all
}

// Clear forgets everything and says how much that was.
func (b *Book) Clear() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.found)
	b.found = nil
	b.order.Init()
	return n
}
