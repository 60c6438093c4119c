// Package store keeps objects in Badger: bodies in chunks, a record per key,
// in generations of which the oldest is dropped whole when the cap is reached.
//
// The contract: what has no record does not exist; the record goes in last; a
// record whose bytes are gone is a miss and never an error; no object is ever
// whole in memory. Start at Store and Writer. This package imports nothing of
// larder and knows nothing of HTTP.
//
// # Generations
//
// The store is a log of generations, each a Badger instance in a folder of its
// own. Only the newest, the head, is written to. When it has its share of the
// cap it is sealed, that is closed cleanly and opened again read-only, and never
// changes until it is removed as a whole. So deleting and replacing an object is
// a further record in the head, and giving space back is removing a folder.
// Before the oldest generation goes, objects in it that were used since they
// were written are copied to the head, within a budget.
//
// # What is in a generation
//
// Every operation that writes draws a number, id, which grows for the life of
// the store and decides which of two records for one key is newer.
//
//	id 'i'          index entry: key, SHA-256, size, where the bytes are (record.go)
//	id 'm'          metadata, and the body when it is small
//	id 'c' number   a chunk of a body, followed by a CRC-32C per 256 KiB block
//
// Index entries stay in Badger's LSM tree and the rest in its value log, so that
// Open reads the index entries only. Keys begin with the id, so tables are written
// in order and compaction has next to nothing to merge. Chunks are committed before
// the index entry that names them, which after kill -9 at any instant leaves chunks
// that nothing refers to, and never the reverse; after a power cut the checksums tell.
//
// # Identical content
//
// Index entries refer to a body by its SHA-256, and one of them says where it
// is. A second key with the same content is an index entry without a place. Larger
// content is compared with what is stored chunk by chunk while it comes (twin.go).
package store
