// Package auth says who a client of the proxy is, from what it sends as
// Proxy-Authorization (RFC 9110, section 11.7): a name and password (Basic, RFC
// 7617) against hashes of bcrypt or argon2id, or a static token (Bearer, RFC
// 6750); and what name a verified client certificate stands for.
//
// Start at Open and Authenticator. A guess costs whoever runs larder a bounded
// share of the processor: verifications are few at a time, their queue is bounded,
// what was verified is remembered under a keyed hash, and a name that nobody has
// costs what a wrong password costs.
//
// This package imports nothing of larder, keeps no credential as it was sent, and
// puts none into an error.
package auth
