// Package manifest reads the lists by which a repository names the SHA-256 of its
// other files, so that a cache can serve those that belong together: Release of a
// Debian archive (https://wiki.debian.org/DebianRepository/Format), repomd.xml of an
// rpm repository. It verifies no signature: that is for the client.
package manifest
