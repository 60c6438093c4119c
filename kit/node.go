package kit

import (
	"bytes"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"larder/certs"
)

// nodeFolder is where a node has the files that environments name, unless the query
// says dir. setup.sh puts them there.
const nodeFolder = "/etc/larder/trust"

// parameterError is a query that is not understood.
type parameterError struct{ problem string }

func (e *parameterError) Error() string { return e.problem }

// folder reads the query of a request for a file that names others.
func (r *request) folder() (string, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", &parameterError{"the query is malformed"}
	}
	for name, values := range query {
		if name != "dir" || len(values) != 1 {
			return "", &parameterError{fmt.Sprintf("the query has %.40q where it can have one dir", name)}
		}
	}
	dir := query.Get("dir")
	if dir == "" {
		return nodeFolder, nil
	}
	return dir, checkFolder(dir)
}

// plain are the characters that mean nothing else to any reader of the files.
const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._+@-"

func checkFolder(dir string) error {
	switch {
	case len(dir) > 1024 || !strings.HasPrefix(dir, "/") || strings.HasSuffix(dir, "/"):
		return &parameterError{fmt.Sprintf("dir=%.80q is no absolute path of a folder", dir)}
	case strings.ContainsFunc(dir, func(c rune) bool { return !strings.ContainsRune(plain, c) }):
		return &parameterError{fmt.Sprintf("dir=%.80q has other characters than letters, digits and ._+@-", dir)}
	case strings.Contains(dir+"/", "/../") || strings.Contains(dir+"/", "/./") || strings.Contains(dir, "//"):
		return &parameterError{fmt.Sprintf("dir=%.80q is not the shortest way to say it", dir)}
	}
	return nil
}

// proxy is what nodes are told of the proxy.
func (r *request) proxy() certs.Proxy {
	return certs.Proxy{URL: r.target.Proxy, NoProxy: r.settings.NoProxy}
}

// environment makes the variables in a format of certs.Formats.
func environment(format string) func(*request) ([]byte, error) {
	return func(r *request) ([]byte, error) {
		dir, err := r.folder()
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		unset := func(string) string { return "" } // what a node has so far is not known
		err = certs.Format(&b, format, certs.Environment(certs.Paths(dir), r.proxy(), unset))
		return b.Bytes(), err
	}
}

// setting makes one of certs.Files.Settings, by its name.
func setting(name string) func(*request) ([]byte, error) {
	return func(r *request) ([]byte, error) {
		dir, err := r.folder()
		if err != nil {
			return nil, err
		}
		for _, s := range certs.Paths(dir).Settings() {
			if filepath.Base(s.Path) == name {
				return s.Data, nil
			}
		}
		return nil, fmt.Errorf("there is no setting %s", name)
	}
}

// setup makes the script. Over TLS it brings the roots' fingerprints with it: who
// could change it on its way there could as well show another certificate.
func setup(r *request) ([]byte, error) {
	script := certs.Script{Kit: r.target.URL(), Proxy: r.proxy()}
	if r.TLS != nil {
		script.Vouched = r.common.roots
	}
	return script.Render()
}
