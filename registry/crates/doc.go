// Package crates reads the sparse index of crates
// (https://doc.rust-lang.org/cargo/reference/registry-index.html).
package crates
