// Package compressed reads files in the compressions that registries use for their
// indexes. Whatever a file says, it takes a bounded amount of memory and unpacks to a
// bounded length.
package compressed
