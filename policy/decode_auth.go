package policy

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// certificateNames are the values of Auth.CertificateUser.
func certificateNames() []string { return []string{"cn", "dns", "email", "uri"} }

func (d *decoder) auth(n *yaml.Node) *Auth {
	a := &Auth{Required: true}
	before := len(d.problems)
	keys := d.mapping(n, "auth", "auth", []field{
		{"required", func(v *yaml.Node) { d.boolean(v, "auth", "required", &a.Required) }},
		{"passwords_file", func(v *yaml.Node) { d.path(v, "auth", "passwords_file", &a.PasswordsFile) }},
		{"tokens_file", func(v *yaml.Node) { d.path(v, "auth", "tokens_file", &a.TokensFile) }},
		{"certificate_user", func(v *yaml.Node) { d.certificateUser(v, &a.CertificateUser) }},
	})
	if keys != nil && len(d.problems) == before && a.PasswordsFile == "" && a.TokensFile == "" && a.CertificateUser == "" {
		d.problem(n, "auth", "give passwords_file, tokens_file or certificate_user", "nobody could prove who he is")
	}
	return a
}

func (d *decoder) certificateUser(n *yaml.Node, into *string) {
	const key = "certificate_user"
	s, ok := d.text(n, "auth", key)
	if !ok {
		return
	}
	for _, known := range certificateNames() {
		if s == known {
			*into = s
			return
		}
	}
	hint := didYouMean(s, certificateNames())
	if hint == "" {
		hint = "write one of " + strings.Join(certificateNames(), ", ")
	}
	d.problem(n, "auth", hint, "%s: %q is no part of a certificate that can name a user", key, s)
}
