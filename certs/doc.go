// Package certs makes what a client needs to trust larder and to find it: a
// bundle of all roots, a trust store for JVMs, and the environment variables
// that the package clients of the world read, each in its own dialect.
//
// Start at Environment. This package imports nothing of larder.
package certs
