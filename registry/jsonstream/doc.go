// Package jsonstream reads JSON of any length (RFC 8259) value by value, in memory that
// does not depend on it. What nobody asks for is passed over and not checked: a caller
// trusts nothing but the values that it takes.
package jsonstream
