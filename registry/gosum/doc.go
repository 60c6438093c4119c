// Package gosum reads what the checksum database of Go says of modules
// (https://go.dev/ref/mod#checksum-database).
package gosum
