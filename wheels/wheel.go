package wheels

import (
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"strings"
	"time"

	"larder/registry/pypi"
)

// Wheel is what is known of a wheel in a Store.
type Wheel struct {
	// File is its name (PEP 427), Project the normalized name in it, and Version the
	// version.
	File    string `json:"file"`
	Project string `json:"project"`
	Version string `json:"version"`
	// SHA256 of the content and of its METADATA, in hex.
	SHA256         string `json:"sha256"`
	MetadataSHA256 string `json:"metadata_sha256"`
	// Size is in bytes.
	Size int64 `json:"size"`
	// RequiresPython are specifiers, "" for none.
	RequiresPython string `json:"requires_python,omitempty"`
	// Added is when it came into the Store.
	Added time.Time `json:"added"`
	// Source is what it was built of; nil if it was given.
	Source *Source `json:"source,omitempty"`
}

// Source is the source distribution that a wheel was built of.
type Source struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	URL    string `json:"url,omitempty"`
	// Python and Pip are what it was built with.
	Python string `json:"python,omitempty"`
	Pip    string `json:"pip,omitempty"`
}

const (
	// maxMetadata bounds METADATA; the largest that are known have some hundred
	// kilobytes, of a README.
	maxMetadata = 8 << 20
	// maxEntries bounds the files in a wheel.
	maxEntries = 200_000
)

// inspect reads what a file says of itself: its name against its METADATA, and its
// digests. It returns the METADATA too.
func inspect(name string, r io.ReaderAt, size int64) (*Wheel, []byte, error) {
	parsed, err := ParseName(name)
	if err != nil {
		return nil, nil, err
	}
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, nil, fmt.Errorf("%s is no wheel: %w", name, err)
	}
	metadata, err := metadataOf(z)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	header, err := textproto.NewReader(bufio.NewReader(io.MultiReader(bytes.NewReader(metadata), strings.NewReader("\n\n")))).ReadMIMEHeader()
	if err != nil && len(header) == 0 {
		return nil, nil, fmt.Errorf("%s: read its METADATA: %w", name, err)
	}
	if pypi.Normalize(header.Get("Name")) != pypi.Normalize(parsed.Project) {
		return nil, nil, fmt.Errorf("%s: its METADATA is of the project %q", name, header.Get("Name"))
	}
	of, err := pypi.ParseVersion(header.Get("Version"))
	if err != nil || of.Compare(parsed.ParsedVersion()) != 0 {
		return nil, nil, fmt.Errorf("%s: its METADATA is of the version %q", name, header.Get("Version"))
	}
	digest := sha256.New()
	if _, err := io.Copy(digest, io.NewSectionReader(r, 0, size)); err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", name, err)
	}
	sum := sha256.Sum256(metadata)
	return &Wheel{
		File: name, Project: pypi.Normalize(parsed.Project), Version: of.String(),
		SHA256: hex.EncodeToString(digest.Sum(nil)), MetadataSHA256: hex.EncodeToString(sum[:]), Size: size,
		RequiresPython: oneLine(header.Get("Requires-Python")),
	}, metadata, nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// ParseName reads the name of a wheel.
func ParseName(name string) (pypi.FileName, error) {
	all := pypi.Readings(name)
	if len(all) != 1 || all[0].Kind != pypi.Wheel || strings.ContainsAny(name, "/\\\x00") {
		return pypi.FileName{}, fmt.Errorf("%q is no name of a wheel (PEP 427), such as six-1.17.0-py3-none-any.whl", name)
	}
	return all[0], nil
}

// metadataOf reads METADATA in the one .dist-info folder.
func metadataOf(z *zip.Reader) ([]byte, error) {
	if len(z.File) > maxEntries {
		return nil, fmt.Errorf("it holds more than %d files", maxEntries)
	}
	var found *zip.File
	for _, f := range z.File {
		folder, file, ok := strings.Cut(f.Name, "/")
		if !ok || file != "METADATA" || !strings.HasSuffix(folder, ".dist-info") {
			continue
		}
		if found != nil {
			return nil, errors.New("it has several METADATA")
		}
		found = f
	}
	if found == nil {
		return nil, errors.New("it has no METADATA")
	}
	if found.UncompressedSize64 > maxMetadata {
		return nil, fmt.Errorf("its METADATA has more than %d MiB", maxMetadata>>20)
	}
	r, err := found.Open()
	if err != nil {
		return nil, fmt.Errorf("read its METADATA: %w", err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxMetadata+1))
	if err == nil && len(b) > maxMetadata {
		err = fmt.Errorf("it has more than %d MiB", maxMetadata>>20)
	}
	if err != nil {
		return nil, fmt.Errorf("read its METADATA: %w", err)
	}
	return b, nil
}

func normal(f pypi.FileName) string { return pypi.Normalize(f.Project) }
