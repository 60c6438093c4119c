package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTicketKeysOfNeighbouringDays(t *testing.T) {
	keysOf := func(secret string, day time.Time) [][32]byte {
		keys, err := ticketKeys([]byte(secret), day)
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	today := keysOf("secret", noon)
	if same := keysOf("secret", noon.Add(11*time.Hour).In(time.FixedZone("", 9*3600))); !slices.Equal(same, today) {
		t.Error("the day depends on the zone")
	}
	for _, days := range []int{-1, 1} {
		if other := keysOf("secret", noon.AddDate(0, 0, days)); other[0] == today[0] || !slices.Contains(today, other[0]) {
			t.Errorf("a ticket of day %+d is not read", days)
		}
	}
	if other := keysOf("secret", noon.AddDate(0, 0, 2)); slices.Contains(other, today[0]) {
		t.Error("a ticket is read two days later")
	}
	if other := keysOf("another", noon); slices.Contains(other, today[0]) {
		t.Error("another secret has the same keys")
	}
}

func TestReadTicketSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	for _, tt := range []struct {
		content string
		mode    os.FileMode
		ok      bool
	}{
		{strings.Repeat("ab", 32) + "\n", 0o600, true},
		{strings.Repeat("ab", 32), 0o440, true},
		{strings.Repeat("ab", 32), 0o644, false},
		{strings.Repeat("ab", 31), 0o600, false},
		{strings.Repeat("xy", 32), 0o600, false},
		{"", 0o600, false},
	} {
		os.Remove(path)
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		secret, err := readTicketSecret(path)
		if (err == nil) != tt.ok || tt.ok && len(secret) != 32 {
			t.Errorf("%q, %v: %d octets, %v", tt.content, tt.mode, len(secret), err)
		}
	}
	if secret, err := readTicketSecret(""); secret != nil || err != nil {
		t.Errorf("without a file: %v, %v", secret, err)
	}
}
