// Command larder is a TLS-intercepting, caching forward proxy for CI fleets.
//
// This folder is the program: one file per subcommand, which reads flags and
// joins the packages together. Nothing else in larder knows all of them. To
// learn how a request travels, start in package mitm; docs/request.md tells
// the same as a story.
package main
