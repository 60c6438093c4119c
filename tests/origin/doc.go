// Package origin holds the small package registries that the end-to-end tests
// use as upstreams: PyPI, npm, Go modules with their checksum database,
// crates.io, Maven, Debian, git and plain artifacts. They speak what the real
// ones speak as far as the clients notice, make their packages on the fly, and
// record every request, so that a test can say what reached the origin.
//
// A [Server] serves any number of hosts on one loopback port over TLS, under an
// [Authority] made for the test, and on another one over plain HTTP. Nothing
// here is for use outside tests.
package origin
