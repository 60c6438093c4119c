// Package npm reads and writes packuments, the documents in which an npm registry
// lists the versions of a package, in their full and their abbreviated form, and the
// manifests of single versions.
//
// Start at Parse and Packument. What is not known is kept, with its bytes and in its
// order; a document that names a key twice is refused, since two readers would take
// different things from it.
//
// The forms are documented in the registry's package-metadata and REGISTRY-API. The
// whole of a document is in memory; whoever reads it bounds it. This package imports
// nothing of larder but registry/rawjson and does not touch the network.
package npm
