// Package curation serves the indexes of package registries without what the policy
// denies, and with wheels that the operator adds, and tells of every request whether
// what it asks for may be had.
//
// Start at Curator: Look says what a request of a registry asks for, Judge whether a
// file may be had, Render makes of an index that upstream sent the one that goes out.
// What is stored is always what upstream sent.
//
// # Age
//
// A quarantine needs to know when a file was published. Of PyPI only the JSON form of
// the index says so, of npm only the full packument, so these are what is asked of
// upstream, and clients get the form that they want. When a file is asked for by its
// URL, its age is what an index has said of that URL (Published), or nobody knows it.
//
// # What can be read in two ways
//
// is refused: a path of which another reading asks for another thing, an index that
// names a key twice, one that is too large or in no known form. An index is written
// from what was understood and nothing else.
//
// This package fetches nothing. Names and versions are judged by package policy, the
// documents read and written by registry/pypi and registry/npm.
package curation
