// Package debian reads the indexes of Debian repositories
// (https://wiki.debian.org/DebianRepository/Format): Release files, and the Packages and
// Sources that they name.
package debian
