// Package indexes finds the digests of files in the indexes of registries, whatever
// their kind: it knows which package below registry/ reads what, and where the files
// are that an index names.
package indexes
