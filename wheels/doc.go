// Package wheels keeps Python wheels of the operator's own, for packages that publish
// none: built of source distributions, or given. It also counts which source
// distributions are fetched, and builds wheels of them with pip.
//
// Start at Store and Counter; Builder is for the command line. A Store is a folder with
// each wheel under its SHA-256, its METADATA beside it, and a sidecar that says what it
// is; the sidecar is written last, and what has none does not exist.
//
// This package imports nothing of larder but registry/pypi. What indexes make of the
// wheels is the business of package curation.
package wheels
