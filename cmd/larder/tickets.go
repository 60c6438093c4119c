package main

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// ticketSecretSize is the least that a shared ticket secret has, in octets.
const ticketSecretSize = 32

// readTicketSecret reads the secret that nodes share so that a TLS session that
// one began is resumed by any; nil if there is no file.
func readTicketSecret(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, usageError(fmt.Errorf("read the ticket secret: %w", err))
	}
	if perm := info.Mode().Perm(); perm&0o037 != 0 {
		return nil, withHint(fmt.Errorf("%s has mode %04o: who reads the ticket secret can read TLS 1.2 sessions", path, perm), "chmod 600 %s", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, usageError(fmt.Errorf("read the ticket secret: %w", err))
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(data)))
	if err == nil && len(secret) < ticketSecretSize {
		err = errors.New("too short")
	}
	if err != nil { // without err: it may show what it read
		return nil, usageError(withHint(fmt.Errorf("%s holds no ticket secret", path), "make one: openssl rand -hex %d > %s", ticketSecretSize, path))
	}
	return secret, nil
}

// ticketKeys derives the keys of session tickets: today's (UTC), which encrypts,
// then those that nodes with another clock and clients of yesterday have. A key
// is of no use two days later, which bounds what a stolen one opens.
func ticketKeys(secret []byte, now time.Time) ([][32]byte, error) {
	var keys [][32]byte
	for _, days := range []int{0, -1, 1} {
		day := now.UTC().AddDate(0, 0, days).Format(time.DateOnly)
		key, err := hkdf.Key(sha256.New, secret, nil, "larder session tickets "+day, 32)
		if err != nil {
			return nil, fmt.Errorf("derive the keys of session tickets: %w", err)
		}
		keys = append(keys, [32]byte(key))
	}
	return keys, nil
}

// setTicketKeys gives the proxy the keys of this day, if they are shared.
func (n *node) setTicketKeys(now time.Time) error {
	if n.options.ticketSecret == nil {
		return nil
	}
	keys, err := ticketKeys(n.options.ticketSecret, now)
	if err == nil {
		n.proxy.SetTicketKeys(keys)
	}
	return err
}
