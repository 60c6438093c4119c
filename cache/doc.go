// Package cache is HTTP caching as RFC 9111 says it for a shared cache: keys,
// freshness, validation, ranges (RFC 9110, section 14), the fills that feed any
// number of clients from one upstream fetch, and Cache-Status (RFC 9211).
//
// Start at Cache.Serve. The bytes are kept by package cache/store; which rule
// applies to a request is decided elsewhere and arrives as a Rule.
//
// # The way of a request
//
// An exchange (exchange.go) looks up the target URI (lookup.go, keys.go, vary.go)
// and judges what it finds (freshness.go). A fresh response is sent from the store
// (respond.go, range.go, multipart.go). For anything else it boards a fill
// (flights.go, passage.go): one goroutine that sends the canonical request
// (request.go), conditional when something is stored (validate.go), decides whether
// the response may be stored (storable.go), and appends its body to a spool
// (spool.go) from which every client reads at its own pace. A body that breaks off
// is taken up again (resume.go). What cannot be shared is passed on (forward.go);
// ranges among it are kept until they make a whole (join.go, parts.go).
//
// # What is kept
//
// At the primary key, a digest of the target URI, is either a response or, where
// responses vary, a list of the request fields that select one; then the responses
// are at secondary keys. Records are in meta.go. Set-Cookie and Alt-Svc are not
// kept, and of two clients waiting for one fill only the first gets them. Under rules
// that share, a record at the key of the content leads to it too (share.go).
//
// # Files of signed repositories
//
// What a Debian Release or a repomd.xml names by its digest is served by that list's
// word, in one generation with it, and the generation before is kept until the next is
// whole (bound.go, package manifest).
//
// # Requests with content
//
// Where a rule calls a POST a question, ServeContent answers it like a GET, with the
// content in the primary key (content.go). There are no ranges, no conditions and no
// resumption. What is stored is not a response of the target URI, and no unsafe request
// to that makes it unusable.
//
// # Where a rule prevails over HTTP
//
// Immutable and Revalidate fix the freshness lifetime, whatever the response's
// Cache-Control and Expires say; StaleIfError prevails over must-revalidate; under
// Immutable a request's freshness directives are not heard. Cache-Status tells where
// that is why a response is served: detail=immutable, revalidate, negative-ttl or
// stale-if-error. No rule prevails over no-store or Vary: *, and over private and section
// 3.5 on credentials only one whose Access says how it is made sure who may have what is
// stored.
//
// # Who may have it
//
// Under AccessRecheck (recheck.go) nothing goes from the store, or from a fill that another
// client began, to a client for which upstream has not said that it may have it: in answer
// to that client's own request, or to a HEAD with its credentials. The answers are
// remembered for a while (verdicts.go), by what HMAC makes of credential and scope. What
// upstream refuses it refuses to the client itself, whose own request is sent for that.
// Under AccessSigned it is the URL that gives the right (signature.go).
//
// Where the rule says so, the digest in the path is the key (Rule.KeyByDigest), and
// redirects are followed on the way to the content (redirect.go).
package cache
