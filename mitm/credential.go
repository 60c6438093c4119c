package mitm

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// credential is what a credentials file holds. However it is printed, nothing of
// it shows.
type credential struct {
	user, password string // of basic
	field          string // the value of Authorization or Proxy-Authorization
}

// String implements fmt.Stringer.
func (c *credential) String() string { return "(secret)" }

// GoString implements fmt.GoStringer.
func (c *credential) GoString() string { return "(secret)" }

// LogValue implements slog.LogValuer.
func (c *credential) LogValue() slog.Value { return slog.StringValue("(secret)") }

// maxSecretFile bounds credentials files: tokens have a few KiB at most.
const maxSecretFile = 64 << 10

// readCredential reads a credentials file; no name gives nil.
func readCredential(file string) (*credential, error) {
	if file == "" {
		return nil, nil
	}
	b, err := readSecret(file)
	if err != nil {
		return nil, err
	}
	c, err := parseCredential(string(b))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return c, nil
}

// readSecret reads a file that must be out of reach for other users. Its group
// may read it: Kubernetes and systemd hand secrets out that way.
func readSecret(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err // says what and which
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", file)
	}
	if perm := info.Mode().Perm(); perm&0o037 != 0 {
		return nil, fmt.Errorf("read %s: mode %04o gives others a secret: chmod 600 %s", file, perm, file)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSecretFile {
		return nil, fmt.Errorf("read %s: longer than %d KiB", file, maxSecretFile>>10)
	}
	return b, nil
}

// parseCredential reads one line, `basic USER:PASSWORD` or `bearer TOKEN`. No
// error quotes any of it.
func parseCredential(text string) (*credential, error) {
	line := strings.TrimRight(text, "\r\n")
	scheme, value, _ := strings.Cut(line, " ")
	for i := range len(value) {
		if value[i] < 0x20 || value[i] == 0x7f {
			return nil, errors.New("a control character or a second line in it")
		}
	}
	switch strings.ToLower(scheme) {
	case "basic":
		user, password, ok := strings.Cut(value, ":")
		if !ok || user == "" {
			return nil, errors.New("basic is not followed by USER:PASSWORD")
		}
		return &credential{user, password, "Basic " + base64.StdEncoding.EncodeToString([]byte(value))}, nil
	case "bearer":
		const token68 = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/"
		if value == "" || strings.Trim(strings.TrimRight(value, "="), token68) != "" {
			return nil, errors.New("bearer is not followed by a token (RFC 6750, Section 2.1)")
		}
		return &credential{field: "Bearer " + value}, nil
	}
	return nil, errors.New("it must hold one line: basic USER:PASSWORD, or bearer TOKEN")
}
