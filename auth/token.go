package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// minToken is how long a token is at least: ours have 26 characters of 5 bits.
const minToken = 16

// maxToken is how long one is at most.
const maxToken = 1024

// tokens maps the keyed hash of a token's SHA-256 to its user. What the time of a
// look-up tells is about that hash, whose key nobody knows.
type tokens map[digest]string

func (v *verifier) readTokens(path string) (tokens, error) {
	t := tokens{}
	if path == "" {
		return t, nil
	}
	b, err := readFile(path)
	if err != nil {
		return t, err
	}
	err = eachLine(path, b, func(user, rest string) (string, string) {
		sum := sha256.Sum256([]byte(rest))
		if digits, ok := strings.CutPrefix(rest, "sha256:"); ok {
			decoded, err := hex.DecodeString(digits)
			if err != nil || len(decoded) != len(sum) {
				return "sha256: is not followed by 64 hexadecimal digits", "printf %s TOKEN | sha256sum"
			}
			copy(sum[:], decoded)
		} else if len(rest) < minToken || !isToken68(rest) {
			return "a token has 16 to 1024 letters, digits or -._~+/, and = at its end", "make a line with: larder auth token NAME"
		}
		key := v.keyed("token", string(sum[:]))
		if _, twice := t[key]; twice {
			return "the token has a line already", ""
		}
		t[key] = user
		return "", ""
	})
	if err == nil && len(t) == 0 {
		err = &FileError{Path: path, Why: "no token in it", Do: "make a line with: larder auth token NAME"}
	}
	return t, err
}

// isToken68 accepts what may stand behind Bearer (RFC 9110, section 11.2).
func isToken68(s string) bool {
	s = strings.TrimRight(s, "=")
	return s != "" && len(s) <= maxToken && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/") == ""
}

// NewToken makes a token and the line of a tokens file that lets a user in by it
// without holding it.
func NewToken(user string) (token, line string, err error) {
	if !validUser(user) {
		return "", "", errors.New("the name must be 1 to 255 bytes of text without colons and control characters and not *")
	}
	token = rand.Text()
	sum := sha256.Sum256([]byte(token))
	return token, user + ":sha256:" + hex.EncodeToString(sum[:]), nil
}
