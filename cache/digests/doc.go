// Package digests keeps what indexes have said of other files: digests by key, in one
// file of a fixed number of slots that survives a restart. It is a cache of its own:
// when it is full the oldest go, and what was lost is merely not known.
package digests
