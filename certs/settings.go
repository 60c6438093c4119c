package certs

import "fmt"

// A Setting is a file that says to a tool what it takes from no variable.
type Setting struct {
	Path string
	Data []byte
}

// Settings are the files of that kind, which name the bundle.
func (files Files) Settings() []Setting {
	return []Setting{
		{files.AptConf, aptConf(files)},
		{files.Wgetrc, wgetrc(files)},
		{files.PHPIni, phpIni(files)},
	}
}

// aptConf returns the settings for APT_CONFIG. apt has no variable for roots
// (ECOSYSTEMS.md, 7.3); the proxy it does take from the environment.
func aptConf(files Files) []byte {
	return fmt.Appendf(nil, "Acquire::https::CaInfo %q;\n", files.Bundle)
}

// wgetrc returns the settings for WGETRC. Where wget is built with GnuTLS, as
// Debian's is, it has no variable for roots either (ECOSYSTEMS.md, 7.3).
func wgetrc(files Files) []byte {
	return fmt.Appendf(nil, "ca_certificate = %s\n", files.Bundle)
}

// phpIni returns the settings for PHP_INI_SCAN_DIR. PHP's streams read
// SSL_CERT_FILE, its curl extension reads no variable.
func phpIni(files Files) []byte {
	return fmt.Appendf(nil, "curl.cainfo = %q\nopenssl.cafile = %q\n", files.Bundle, files.Bundle)
}
