package certs

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

const certificateType = "CERTIFICATE"

// systemBundles returns where operating systems keep all their roots in one
// file, in the order of crypto/x509: the first that exists is the system's.
func systemBundles() []string {
	return []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Arch, Gentoo
		"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, RHEL 6
		"/etc/ssl/ca-bundle.pem",                            // openSUSE
		"/var/lib/ca-certificates/ca-bundle.pem",            // SUSE
		"/etc/pki/tls/cacert.pem",                           // OpenELEC
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // RHEL 7 and later
		"/etc/ssl/certs/ca-bundle.crt",                      // NixOS
		"/etc/ssl/cert.pem",                                 // Alpine, FreeBSD, OpenBSD, macOS
		"/usr/local/etc/ssl/cert.pem",                       // FreeBSD
		"/usr/local/share/certs/ca-root-nss.crt",            // DragonFly
		"/etc/openssl/certs/ca-certificates.crt",            // NetBSD
	}
}

// systemFolders are read if there is none of systemBundles.
func systemFolders() []string {
	return []string{"/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/openssl/certs"}
}

// callerVariables name a file or folder of roots that the caller trusts, and
// are among those that Environment sets to something else.
func callerVariables() []string {
	return slices.Concat([]string{"SSL_CERT_DIR"}, bundleVariables(), addingVariables())
}

// CallerBundles returns the files and folders of roots which the variables of
// the caller name, for Write to take up: what the caller trusts so far must go
// on being trusted when the variables point at larder's bundle. Values that
// name nothing that exists are left out, for the tools that read them ignore
// such or fail on their own.
func CallerBundles(current func(string) string) []string {
	var paths []string
	for _, name := range callerVariables() {
		values := []string{current(name)}
		if name == "SSL_CERT_DIR" {
			values = filepath.SplitList(values[0])
		}
		for _, value := range values {
			path, err := filepath.Abs(value)
			if value == "" || err != nil || slices.Contains(paths, path) {
				continue
			}
			if _, err := os.Stat(path); err == nil {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// maxBundle bounds what is read of one file: the largest bundles of operating
// systems have less than 1 MiB.
const maxBundle = 64 << 20

// rootSet collects certificates, each once, in the order in which they come.
type rootSet struct {
	ders [][]byte
	seen map[[sha256.Size]byte]bool
}

func newRootSet() *rootSet {
	return &rootSet{seen: make(map[[sha256.Size]byte]bool)}
}

// addPEM takes the certificates out of PEM, leaving out whatever else is there:
// comments, keys, and OpenSSL's trusted certificates, which only it can read.
// It returns how many it has found.
func (s *rootSet) addPEM(data []byte) int {
	found := 0
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return found
		}
		if block.Type != certificateType {
			continue
		}
		found++
		s.add(block.Bytes)
	}
}

func (s *rootSet) add(der []byte) {
	if sum := sha256.Sum256(der); !s.seen[sum] {
		s.seen[sum] = true
		s.ders = append(s.ders, der)
	}
}

// addPath takes the certificates of a file, or of each file in a folder.
func (s *rootSet) addPath(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return s.addFile(path)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		// Folders of hashed names are full of links, and of links to nowhere.
		file := filepath.Join(path, entry.Name())
		info, err := os.Stat(file)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if err := s.addFile(file); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

func (s *rootSet) addFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > maxBundle {
		return fmt.Errorf("%s is too large for a bundle of certificates: %d bytes", path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	s.addPEM(data)
	return nil
}

// addSystem takes the roots of the operating system, if it has any in files.
func (s *rootSet) addSystem() error {
	for _, path := range systemBundles() {
		if err := s.addPath(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, path := range systemFolders() {
		if err := s.addPath(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// pem returns the certificates in PEM and nothing else, for some readers take
// offence at comments.
func (s *rootSet) pem() []byte {
	var b bytes.Buffer
	for _, der := range s.ders {
		pem.Encode(&b, &pem.Block{Type: certificateType, Bytes: der}) // cannot fail
	}
	return b.Bytes()
}
