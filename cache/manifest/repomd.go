package manifest

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// repomdData is one file of repomd.xml.
type repomdData struct {
	Location struct {
		Href string `xml:"href,attr"`
	} `xml:"location"`
	Checksum struct {
		Type string `xml:"type,attr"`
		Sum  string `xml:",chardata"`
	} `xml:"checksum"`
}

// readRepomd reads repomd.xml. Its names are relative to the folder above repodata.
func readRepomd(r io.Reader) (Files, error) {
	files := make(Files)
	d := xml.NewDecoder(r)
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read repomd.xml: %w", err)
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "data" {
			continue
		}
		var one repomdData
		if err := d.DecodeElement(&one, &start); err != nil {
			return nil, fmt.Errorf("read repomd.xml: %w", err)
		}
		if one.Checksum.Type == "sha256" {
			if err := files.add(one.Location.Href, strings.TrimSpace(one.Checksum.Sum)); err != nil {
				return nil, err
			}
		}
	}
}
