package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"larder/daemon"
)

// openSocket binds the socket of who owns the state folder, and reads the token that
// stands for the same over TCP.
func (s *server) openSocket(paths daemon.Paths) error {
	var err error
	if s.token, err = adminToken(paths); err == nil {
		s.socket, err = daemon.ListenAdmin(paths)
	}
	if err != nil {
		return errors.Join(err, s.node.close())
	}
	return nil
}

// tokenFile is where the token is: in a folder that only its owner may enter.
func tokenFile(paths daemon.Paths) string { return filepath.Join(paths.Run(), "admin.token") }

// adminToken reads the token of this state folder, or makes one. Removing the file
// makes a new one at the next start.
func adminToken(paths daemon.Paths) (string, error) {
	path := tokenFile(paths)
	token, err := readToken(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return token, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("make the token of the store API: %w", err)
	}
	token = rand.Text()
	_, err = fmt.Fprintln(f, token)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("make the token of the store API: %w", err), os.Remove(path))
	}
	return token, nil
}

// minToken is how long a token is at least; ours have 26 characters.
const minToken = 16

func readToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the token of the store API: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if len(token) < minToken || strings.ContainsAny(token, " \t\r\n") {
		return "", withHint(fmt.Errorf("read the token of the store API: %s holds none", path), "remove the file: a new one is made at the next start")
	}
	return token, nil
}
