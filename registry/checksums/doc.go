// Package checksums reads the files that sha256sum and its like write, and the ones with
// a single digest that lie beside a file under its name with another ending.
package checksums
