//go:build !linux

package store

import "testing"

// wroteToDisk needs Linux's accounting; elsewhere only the store's own count is tested.
func wroteToDisk(testing.TB) int64 { return 0 }

// parts are the parts of a child that need this system.
func parts() map[string]func([]string) error { return nil }
