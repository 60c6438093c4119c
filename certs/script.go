package certs

import (
	"bytes"
	"crypto/x509"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

//go:embed setup/*
var setupParts embed.FS

// A Script is what setup.sh is made of, which sets up a whole machine: the roots in
// its trust stores and the proxy in the settings of what reads no environment.
type Script struct {
	// Kit is the URL that the script fetches larder's roots from: scheme, host and
	// port.
	Kit string
	// Proxy is what it sets.
	Proxy Proxy
	// Vouched are the roots that the script trusts without being told their
	// fingerprints. Only a script that cannot have been changed on its way may.
	Vouched []*x509.Certificate
}

// trustPlace stands for the folder of the trust files, which the script knows.
const trustPlace = "@TRUST@"

// scriptSafe are the characters that may be in what a script is made of: none that
// means something to a shell between single quotes, to sed, PAM, systemd, apt or XML.
const scriptSafe = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ,.:/_=*|[]@+-\n"

// Render returns the script, in the language of every POSIX shell. Values that it
// could not hold without quoting are an error.
func (s Script) Render() ([]byte, error) {
	for _, raw := range []string{s.Kit, s.Proxy.URL} {
		if u, err := url.Parse(raw); err != nil || u.Scheme != "http" && u.Scheme != "https" || raw != u.Scheme+"://"+u.Host || u.Port() == "" {
			return nil, fmt.Errorf("render setup.sh: %.100q is no URL of a host and port", raw)
		}
	}
	noProxy, _ := mergeNoProxy(s.Proxy.NoProxy, func(string) string { return "" })
	values := map[string]string{
		"Kit": s.Kit, "Proxy": s.Proxy.URL,
		"NoProxy": strings.Join(noProxy, ","), "JVMNoProxy": nonProxyHosts(noProxy),
	}
	values["ProxyHost"], values["ProxyPort"] = hostPort(s.Proxy.URL)
	values["Environment"], values["Service"], values["Job"] = s.variables()
	var vouched []string
	for _, root := range s.Vouched {
		sum, err := ParseFingerprint(Fingerprint(root))
		if err != nil {
			return nil, err
		}
		vouched = append(vouched, hex.EncodeToString(sum[:]))
	}
	values["Vouched"] = strings.Join(vouched, " ")
	for name, value := range values {
		if strings.ContainsFunc(value, func(r rune) bool { return !strings.ContainsRune(scriptSafe, r) }) {
			return nil, fmt.Errorf("render setup.sh: %s %.100q has characters that a script does not hold", name, value)
		}
	}
	return render(values)
}

// variables are lines of NAME=VALUE: for who finds the roots that no variable names in
// the system's stores, for daemons, which take few of them, and for jobs, which have the
// files alone.
func (s Script) variables() (environment, service, job string) {
	files := Files{CA: trustPlace + "/ca.pem", Bundle: trustPlace + "/bundle.pem"}
	daemons := []string{"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "SSL_CERT_FILE", "NIX_SSL_CERT_FILE"}
	for _, v := range Environment(files, s.Proxy, func(string) string { return "" }) {
		if v.Unset {
			continue
		}
		line := v.Name + "=" + v.Value + "\n"
		environment += line
		if slices.Contains(daemons, v.Name) {
			service += line
		}
	}
	for _, v := range Environment(Paths(trustPlace), s.Proxy, func(string) string { return "" }) {
		if !v.Unset {
			job += v.Name + "=" + v.Value + "\n"
		}
	}
	return environment, service, job
}

// settings are the files of Files.Settings by name, which hold nothing from outside.
func settings() map[string]string {
	all := map[string]string{}
	for _, s := range Paths(trustPlace).Settings() {
		all[filepath.Base(s.Path)] = string(s.Data)
	}
	return all
}

// render puts the parts together, of which the first is a template.
func render(values map[string]string) ([]byte, error) {
	parts, err := fs.Glob(setupParts, "setup/*") // in the order of their names
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, name := range parts {
		part, err := setupParts.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if !strings.HasSuffix(name, ".tmpl") {
			b.Write(part)
			b.WriteByte('\n')
			continue
		}
		t, err := template.New(name).Option("missingkey=error").Parse(string(part))
		if err == nil {
			err = t.Execute(&b, struct {
				Values   map[string]string
				Settings map[string]string
			}{values, settings()})
		}
		if err != nil {
			return nil, errors.Join(errors.New("render setup.sh"), err)
		}
	}
	return b.Bytes(), nil
}
