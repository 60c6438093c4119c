package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// formatVersion is the number in the FORMAT file. It changes when an older larder
// could not read the folder any more; a change of records alone is a change of
// their version byte, and an entry of a version that is not known is a miss.
const formatVersion = 1

const (
	formatFile = "FORMAT"
	formatName = "larder store"
)

// A migration brings a folder from one version of the format to the next. A crash
// in the midst of it must leave what it can begin again with.
type migration func(dir string) error

// migrations are by the version that they begin with; from 0 on, which was never
// released and stands for all that cannot be taken over.
func migrations() map[int]migration { return map[int]migration{0: dropGenerations} }

// dropGenerations is the migration from formats that are not worth rewriting: all
// of a cache can be fetched again, and rewriting it would keep clients waiting
// for as long.
func dropGenerations(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), generationPrefix) && e.IsDir() {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkFormat reads the FORMAT file, or writes it in an empty store. A folder of an
// older version is migrated, a step at a time, each of which is noted when it is done.
func checkFormat(dir string, steps map[int]migration, log *slog.Logger) error {
	path := filepath.Join(dir, formatFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return writeFormat(dir, formatVersion)
	}
	if err != nil {
		return fmt.Errorf("open store %s: %w", dir, err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	number, ok := strings.CutPrefix(line, formatName+" ")
	version, err := strconv.Atoi(number)
	if !ok || err != nil || version > formatVersion {
		return &FormatError{Dir: dir, Found: line}
	}
	for ; version < formatVersion; version++ {
		step := steps[version]
		if step == nil {
			return &FormatError{Dir: dir, Found: line}
		}
		log.Info("migrating the store", "dir", dir, "from", version, "to", version+1)
		if err := step(dir); err != nil {
			return fmt.Errorf("migrate store %s from format %d: %w", dir, version, err)
		}
		if err := writeFormat(dir, version+1); err != nil {
			return err
		}
	}
	return nil
}

func writeFormat(dir string, version int) error {
	err := writeFileSync(filepath.Join(dir, formatFile), fmt.Appendf(nil, "%s %d\n", formatName, version))
	if err != nil {
		return fmt.Errorf("open store %s: write its format: %w", dir, err)
	}
	return nil
}
