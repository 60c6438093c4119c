package main

import (
	"crypto/x509"
	"fmt"

	"larder/auth"
	"larder/mitm"
	"larder/policy"
)

// authFiles are the files of credentials that the settings name.
func authFiles(s policy.Settings) auth.Options {
	if s.Auth == nil {
		return auth.Options{}
	}
	return auth.Options{PasswordsFile: s.Auth.PasswordsFile, TokensFile: s.Auth.TokensFile}
}

// readAccess reads the files of credentials, and returns who may use the proxy by
// them. What was read before holds until the proxy is given it.
func (n *node) readAccess(s policy.Settings) (mitm.Access, error) {
	if s.Auth == nil || !n.options.auth {
		return mitm.Access{}, nil
	}
	read := func(o auth.Options) (*auth.Authenticator, error) { return auth.Open(o, n.registry) }
	if n.auth != nil {
		read = n.auth.Reread
	}
	a, err := read(authFiles(s))
	if err != nil {
		return mitm.Access{}, fmt.Errorf("prepare the proxy's authentication: %w", err)
	}
	n.auth = a
	access := mitm.Access{Authenticator: a, Required: s.Auth.Required}
	if kind := s.Auth.CertificateUser; kind != "" {
		access.CertificateUser = func(c *x509.Certificate) (string, error) { return auth.CertificateUser(c, kind) }
	}
	return access, nil
}
