package main

import (
	"path/filepath"

	"larder/cache/digests"
)

// openDigests opens the digests that indexes have named. Without them larder goes on:
// they are then not known.
func (n *node) openDigests() *digests.Table {
	table, err := digests.Open(filepath.Join(n.paths.Integrity(), "digests"), digests.DefaultBuckets)
	if err != nil {
		n.logger.Error("nothing is learnt from indexes until larder is started again", "err", err)
		return nil
	}
	n.closers = append(n.closers, table)
	return table
}
