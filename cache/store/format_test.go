package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestOtherFormatsAreRefused(t *testing.T) {
	for _, line := range []string{"larder store 2\n", "larder store -1\n", "larder store\n", "", "something else\n"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, formatFile), []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Options{Dir: dir, MaxSize: minSize})
		if _, ok := errors.AsType[*FormatError](err); !ok {
			t.Errorf("format %q: %v", line, err)
		}
	}
}

func TestStoreOfAnOlderFormatIsDroppedAndUsed(t *testing.T) {
	dir := t.TempDir()
	old := generationDir(dir, 7)
	if err := os.MkdirAll(old, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		filepath.Join(old, "000001.vlog"): "of another time", filepath.Join(dir, formatFile): "larder store 0\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		s := open(t, Options{Dir: dir})
		if _, err := os.Stat(old); err == nil {
			t.Error("the old generation is still there")
		}
		fill(t, s, key(1), nil, content(1, 1000))
		check(t, s, key(1), nil, content(1, 1000))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, formatFile)); err != nil || string(b) != "larder store 1\n" {
		t.Errorf("the format is %q, %v", b, err)
	}
}

// TestMigrationGoesOnWhereItEnded has two invented steps, the second of which fails
// at first: the first one must not be repeated.
func TestMigrationGoesOnWhereItEnded(t *testing.T) {
	dir := t.TempDir()
	if err := writeFormat(dir, formatVersion-2); err != nil {
		t.Fatal(err)
	}
	var first, second int
	failure := errors.New("no")
	steps := map[int]migration{
		formatVersion - 2: func(string) error { first++; return nil },
		formatVersion - 1: func(string) error {
			if second++; second == 1 {
				return failure
			}
			return nil
		},
	}
	if err := checkFormat(dir, steps, logger(t)); !errors.Is(err, failure) {
		t.Errorf("the first time: %v", err)
	}
	for range 2 {
		if err := checkFormat(dir, steps, logger(t)); err != nil {
			t.Errorf("then: %v", err)
		}
	}
	if first != 1 || second != 2 {
		t.Errorf("the first step was taken %d times, the second %d", first, second)
	}
}
