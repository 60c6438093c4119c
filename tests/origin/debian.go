package origin

import (
	"fmt"
	"strings"
)

// Debian serves a repository below prefix (such as "/debian") on one host: the
// suite "stable" with the component main for amd64, by-hash indexes and a signed
// InRelease. It returns the keyring for signed-by.
func Debian(s *Server, host, prefix string, packages ...Package) (keyring []byte, err error) {
	a, err := NewArchive(s, prefix, ArchiveOptions{ByHash: true}, host)
	if err != nil {
		return nil, err
	}
	return a.Keyring, a.Publish(packages...)
}

func debControl(p Package) string {
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: larder <larder@example.org>\n"+
		"Description: made for a test\n", p.Name, p.Version)
	if len(p.Requires) > 0 {
		control += "Depends: " + strings.Join(p.Requires, ", ") + "\n"
	}
	return control
}

// makeDeb builds a .deb as deb(5) describes it.
func makeDeb(p Package) ([]byte, error) {
	control, err := tarGz([]member{{"./control", []byte(debControl(p))}})
	if err != nil {
		return nil, err
	}
	data, err := tarGz([]member{{"./usr/share/" + p.Name + "/ballast.bin", ballast(p.Name, p.Payload)}})
	if err != nil {
		return nil, err
	}
	return arFile([]member{
		{"debian-binary", []byte("2.0\n")},
		{"control.tar.gz", control},
		{"data.tar.gz", data},
	}), nil
}
