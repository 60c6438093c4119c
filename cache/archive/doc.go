// Package archive is the file in which stored responses travel between larders:
// written by one, carried to a site that has no network, read by another.
//
// It is a tar file (POSIX.1-2017, pax) that is written and read as a stream, with
// memory for one response at a time, and that holds, in this order:
//
//	larder-archive.json                {"format":"larder archive","version":1}
//	objects/BODY/body                  a body; BODY is its SHA-256 in hexadecimal
//	objects/BODY/RESPONSES.json        what was answered with that body: a JSON
//	                                   array of Response; RESPONSES is this
//	                                   file's own SHA-256. One or more files.
//	...
//	SHA256SUMS.000001                  as sha256sum writes it, for up to 1024 of
//	                                   the files since the last such list
//	...
//	end.json                           counts; an archive without it is cut short
//
// Each body is there once, whatever the number of URLs it was found under. Every
// name carries the digest of its content, so a reader knows of each file by itself
// whether it is what was written, and a person checks an unpacked archive by
// "cat SHA256SUMS.* | sha256sum -c". The same responses give the same archive, byte
// for byte: nothing in it says when, where or by whom it was made.
//
// The digests find damage, not malice: who can write an archive can write its
// digests. Sign it where that matters.
package archive
