// Package hello reads the ClientHello with which a TLS client begins (RFC 8446,
// Section 4.1.2) and says which program most likely sent it.
//
// A TLS library offers its cipher suites and extensions in an order of its own, and
// programs differ in a few of them, so that the message tells one from the other
// without a word of the client's. It is likely and never more: a program may be built
// with another library, and may say what it likes. What a guess rests on is part of it.
//
// The guesses are held to what real clients have sent, in testdata; `go run
// ./tests/hellos` records them anew.
package hello
