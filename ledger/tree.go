package ledger

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// frontier is the right edge of a Merkle tree (RFC 6962, section 2.1): the heads of the
// perfect trees that its leaves make, the largest first.
type frontier struct {
	size   int64
	heads  []tlog.Hash
	levels []int
}

// push adds the head of a perfect tree of 1<<level leaves, of which there must be a
// multiple already.
func (f *frontier) push(level int, h tlog.Hash) {
	f.size += 1 << level
	for n := len(f.heads); n > 0 && f.levels[n-1] == level; n-- {
		h = tlog.NodeHash(f.heads[n-1], h)
		level++
		f.heads, f.levels = f.heads[:n-1], f.levels[:n-1]
	}
	f.heads, f.levels = append(f.heads, h), append(f.levels, level)
}

// root is the hash of the whole tree.
func (f *frontier) root() tlog.Hash {
	n := len(f.heads)
	if n == 0 {
		h, _ := tlog.TreeHash(0, nil) // that of no leaf
		return h
	}
	h := f.heads[n-1]
	for i := n - 2; i >= 0; i-- {
		h = tlog.NodeHash(f.heads[i], h)
	}
	return h
}

// headOf returns the head of the n-th perfect tree of 1<<level leaves.
func (l *Ledger) headOf(level int, n int64) (tlog.Hash, error) {
	if level < l.level || level == l.level && n >= int64(len(l.sealed)) {
		return l.headOfLeaves(level, n)
	}
	if level == l.level {
		return l.sealed[n].root, nil
	}
	left, err := l.headOf(level-1, 2*n)
	if err != nil {
		return tlog.Hash{}, err
	}
	right, err := l.headOf(level-1, 2*n+1)
	if err != nil {
		return tlog.Hash{}, err
	}
	return tlog.NodeHash(left, right), nil
}

// headOfLeaves reads the leaves that are below.
func (l *Ledger) headOfLeaves(level int, n int64) (tlog.Hash, error) {
	from, to := n<<level, (n+1)<<level
	var f frontier
	err := l.scan(from, to, func(e *Entry) error {
		f.push(0, e.leaf())
		return nil
	})
	if err != nil {
		return tlog.Hash{}, err
	}
	if f.size != to-from {
		return tlog.Hash{}, fmt.Errorf("%w: it has no entries %d to %d", ErrDamaged, from, to)
	}
	return f.root(), nil
}

// readHashes is a tlog.HashReader.
func (l *Ledger) readHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		var err error
		if hashes[i], err = l.headOf(level, n); err != nil {
			return nil, err
		}
	}
	return hashes, nil
}

// rootAt is the root of the tree of the first size entries.
func (l *Ledger) rootAt(size int64) (tlog.Hash, error) {
	return tlog.TreeHash(size, tlog.HashReaderFunc(l.readHashes))
}
