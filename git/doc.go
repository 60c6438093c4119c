// Package git reads the upload-pack protocol of git over HTTP as far as a cache must
// understand it: what a request asks for, and whether an answer is whole.
//
// A POST to git-upload-pack is either a question about now, the refs, or one whose
// answer holds for ever: objects by their full names, which are digests. Any answer
// to the second kind that was right once serves any client that asks the same, for a
// server keeps nothing between requests (stateless-rpc), and the client checks what it
// gets by those names. ReadRequest tells the kinds apart; what it does not understand
// in every byte is of neither, and is nobody's to store. Answer checks a response as it
// streams by, down to the checksum that ends its pack.
//
// The references are gitprotocol-v2(5), gitprotocol-pack(5), gitprotocol-http(5) and
// gitformat-pack(5).
package git
