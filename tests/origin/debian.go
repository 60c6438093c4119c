package origin

import (
	"fmt"
	"net/http"
	"strings"
)

// Debian serves a repository below prefix (such as "/debian") on one host: the
// suite "stable" with the component main for amd64, by-hash indexes and a signed
// InRelease. It returns the keyring for signed-by.
func Debian(s *Server, host, prefix string, packages ...Package) (keyring []byte, err error) {
	served := make(files)
	var index strings.Builder
	for _, p := range packages {
		deb, err := makeDeb(p)
		if err != nil {
			return nil, fmt.Errorf("make deb of %s: %w", p.Name, err)
		}
		where := fmt.Sprintf("pool/main/%s/%s/%s_%s_amd64.deb", p.Name[:1], p.Name, p.Name, p.Version)
		served[prefix+"/"+where] = file{
			body: deb, kind: "application/vnd.debian.binary-package",
			header: http.Header{"Cache-Control": {"public, max-age=2592000"}},
		}
		fmt.Fprintf(&index, "%sFilename: %s\nSize: %d\nSHA256: %s\n\n", debControl(p), where, len(deb), hexSHA256(deb))
	}
	plain := []byte(index.String())
	lists := []member{{"Packages", plain}, {"Packages.gz", compressed(plain)}}
	var sums strings.Builder
	for _, list := range lists {
		served[prefix+"/dists/stable/main/binary-amd64/"+list.name] = file{body: list.body, kind: "application/octet-stream"}
		served[prefix+"/dists/stable/main/binary-amd64/by-hash/SHA256/"+hexSHA256(list.body)] = file{body: list.body, kind: "application/octet-stream"}
		fmt.Fprintf(&sums, " %s %d main/binary-amd64/%s\n", hexSHA256(list.body), len(list.body), list.name)
	}
	release := fmt.Appendf(nil, "Origin: larder\nLabel: larder\nSuite: stable\nCodename: stable\nDate: %s\n"+
		"Architectures: amd64\nComponents: main\nAcquire-By-Hash: yes\nSHA256:\n%s", published.Format("Mon, 02 Jan 2006 15:04:05 UTC"), sums.String())
	key, err := newArchiveKey()
	if err != nil {
		return nil, err
	}
	signed, err := key.clearsign(release)
	if err != nil {
		return nil, err
	}
	served[prefix+"/dists/stable/InRelease"] = file{
		body: signed, kind: "text/plain",
		header: http.Header{"Cache-Control": {"public, max-age=120"}},
	}
	s.Handle(host, served)
	return key.keyring()
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
