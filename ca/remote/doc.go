// Package remote lets a larder have its intermediate signed by another, which
// has the root: by cfssl's remote signing, over TLS that the root vouches for,
// each node with a key of its own.
//
// Signer is the node's side, Handler that of the root.
package remote
