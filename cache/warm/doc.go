// Package warm reads lists of what a build is going to fetch, and says which URLs a
// larder must have for it: the lock files of pip (requirements.txt with hashes), npm
// (package-lock.json), Go (go.sum) and cargo (Cargo.lock), and plain lists of URLs.
//
// It fetches nothing by itself: where a lock file names packages and not URLs (PyPI,
// crates), a Plan is made with the help of the registry's index, which the caller
// gets, best through the larder that is to be warmed. Requests are those that the
// package manager would send, so that what is stored is what it will ask for.
//
// Digests of the lock files come along in each Item. A Check verifies them.
package warm
