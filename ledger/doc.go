// Package ledger is an append-only record of the digest under which each URL was first
// seen, of what came under it later, and of what an operator has accepted.
//
// # On disk
//
// Records are in segments of 131,072 (segment.go), each with its length and a CRC-32C. A
// full segment gets an index beside it (index.go): a Bloom filter, which is kept in
// memory, and a sorted list that is looked up on disk. Ten million URLs take some 2 GB on
// disk and 15 MB of memory. What is written survives the end of the process at once, and
// a power cut after a second. Whatever a crash leaves of a record is cut off by the next
// Open; damage before the last checkpoint is an error.
//
// # The tree
//
// The records, as lines of JSON, are the leaves of a Merkle tree (RFC 6962). Its head is
// signed with the ledger's own Ed25519 key as a checkpoint
// (https://c2sp.org/tlog-checkpoint): who has an earlier one can prove that nothing that
// was written before it has been changed or taken out since.
package ledger
