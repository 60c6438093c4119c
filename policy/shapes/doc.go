// Package shapes reads the recorded shapes of registries' URLs and header fields:
// the fixtures that presets are held to. Only tests import it.
//
// A file of shapes is a table that grows by a line:
//
//	# rule     action      ttl  [method] URL                                       [@exchange] [unstored]
//	tarballs   immutable   -    https://{registry}.npmjs.org/is-number/-/is-number-7.0.0.tgz  @tarball
//	packuments revalidate  60s  https://{registry}.npmjs.org/is-number                        @packument
//	-          tunnel      -    PUT https://{upload}.example.org/x
//
// The rule is named without its preset, "-" if none decides; so is the ttl if there
// is none. The method is GET where none is given; POST(git-fetch) is one with a body of
// that kind. Braces are as in a policy file:
// {a,b} makes two shapes, and {a} keeps a registry from being spelled. <64> stands
// for 64 hexadecimal digits.
//
// What is said on the wire is an exchange, given once and used by name: request
// fields behind >, then what upstream answers; a status other than 200 follows the name.
//
//	@tarball
//	  > Accept: */*
//	  Cache-Control: public, max-age=31557600, immutable
//	  ETag: "a1b2"
//
// A row ends in "unstored" where the header fields keep what the rule would store
// from being stored.
package shapes
