package manifest

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// readRelease reads Release or InRelease: fields at the beginning of a line, and below
// SHA256 lines of digest, size and name. What is around it, the signature, has no such
// lines.
func readRelease(r io.Reader) (Files, error) {
	files := make(Files)
	lines := bufio.NewScanner(r)
	within := false
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, " ") {
			within = strings.TrimRight(line, " \r") == "SHA256:"
			continue
		}
		if !within {
			continue
		}
		if words := strings.Fields(line); len(words) == 3 {
			if err := files.add(words[2], words[0]); err != nil {
				return nil, err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read Release: %w", err)
	}
	return files, nil
}
