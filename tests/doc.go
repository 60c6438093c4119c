// Package tests holds what needs the whole program: end-to-end scripts with the
// real package clients against registries that the tests start on loopback,
// the rules about which package may import which, and the benchmarks.
//
// Nothing here reaches the Internet, save under "make live".
package tests
