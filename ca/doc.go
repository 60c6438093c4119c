// Package ca is the private certificate authority (RFC 5280): a root, an issuing
// intermediate signed by it, and short-lived leaves minted at the moment a
// client asks for a name. The signing is cfssl's.
//
// Start at Authority. What a client needs in order to trust the root is the
// business of package certs. This package imports nothing of larder.
package ca
