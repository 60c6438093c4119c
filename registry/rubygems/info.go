package rubygems

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"strings"

	"larder/cache/integrity"
)

// maxLine bounds what is held of an index at once.
const maxLine = 1 << 20

// Info reads the answer to /info/GEM and calls yield with the file's name and SHA-256 of
// each version.
func Info(gem string, body io.Reader, yield func(file string, d integrity.Digest) error) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		// version[-platform] dependencies|checksum:…,ruby:…,rubygems:…
		versionAndNeeds, requirements, ok := strings.Cut(lines.Text(), "|")
		version, _, _ := strings.Cut(versionAndNeeds, " ")
		if !ok || version == "" || strings.ContainsAny(version, "/?#%\\") {
			continue
		}
		for part := range strings.SplitSeq(requirements, ",") {
			value, ok := strings.CutPrefix(part, "checksum:")
			d, err := integrity.ParseDigest("sha256:" + value)
			if !ok || err != nil {
				continue
			}
			if err := yield(gem+"-"+version+".gem", d); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read what the index says of gem %s: %w", gem, err)
	}
	return nil
}

// Gem returns the root of the server, with a slash at its end, and the gem of which an
// answer at that path speaks.
func Gem(info string) (root, gem string, ok bool) {
	dir, gem := path.Split(info)
	root, ok = strings.CutSuffix(dir, "info/")
	return root, gem, ok && gem != "" && strings.HasSuffix(root, "/")
}
