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
// them. On an error what was read before still holds.
func (n *node) readAccess(s policy.Settings) (mitm.Access, error) {
	if s.Auth == nil || !n.options.auth {
		return mitm.Access{}, nil
	}
	var err error
	if n.auth == nil {
		n.auth, err = auth.Open(authFiles(s), n.registry)
	} else {
		err = n.auth.Reload(authFiles(s))
	}
	if err != nil {
		return mitm.Access{}, fmt.Errorf("prepare the proxy's authentication: %w", err)
	}
	access := mitm.Access{Authenticator: n.auth, Required: s.Auth.Required}
	if kind := s.Auth.CertificateUser; kind != "" {
		access.CertificateUser = func(c *x509.Certificate) (string, error) { return auth.CertificateUser(c, kind) }
	}
	return access, nil
}
