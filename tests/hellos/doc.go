// Command hellos records how the clients on this machine begin TLS, and how they
// end it when they do not trust who answers: the fixtures of package mitm/hello.
//
//	go run ./tests/hellos -out mitm/hello/testdata            every client that is installed
//	go run ./tests/hellos -out mitm/hello/testdata curl wget  these
//
// It is a proxy that answers every CONNECT itself, with a certificate of an authority
// that nobody trusts. Each client is told to fetch something through it; what it sent
// first, the User-Agent of its CONNECT and what came after the certificate go into a
// file with the client's version. Nothing leaves the machine.
package main
