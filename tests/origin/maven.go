package origin

import (
	"crypto/md5"  //nolint:gosec // a Maven repository's sidecar by definition
	"crypto/sha1" //nolint:gosec // likewise
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
)

// MavenArtifact is one released artifact of a Maven repository.
type MavenArtifact struct {
	Group, Artifact, Version string
	Packaging                string // "pom" or "jar"
	// Body is the XML inside <project> after the coordinates: a parent, managed
	// or plain dependencies.
	Body    string
	Payload int // bytes of ballast inside the jar
}

// Maven serves released artifacts below prefix (such as "/maven2") on one host,
// each with its .sha1 and .md5, and a maven-metadata.xml per artifact.
func Maven(s *Server, host, prefix string, artifacts ...MavenArtifact) error {
	served := make(files)
	versions := make(map[string][]string)
	for _, a := range artifacts {
		folder := prefix + "/" + strings.ReplaceAll(a.Group, ".", "/") + "/" + a.Artifact
		stem := folder + "/" + a.Version + "/" + a.Artifact + "-" + a.Version
		released := http.Header{"Cache-Control": {"max-age=31536000"}}
		mavenFile(served, stem+".pom", "text/xml", mavenPOM(a), released)
		if a.Packaging == "jar" {
			jar, err := zipped([]member{
				{"META-INF/MANIFEST.MF", []byte("Manifest-Version: 1.0\n\n")},
				{"ballast.bin", ballast(a.Artifact, a.Payload)},
			})
			if err != nil {
				return fmt.Errorf("make jar of %s: %w", a.Artifact, err)
			}
			mavenFile(served, stem+".jar", "application/java-archive", jar, released)
		}
		versions[folder] = append(versions[folder], a.Version)
		mavenFile(served, folder+"/maven-metadata.xml", "text/xml", mavenMetadata(a, versions[folder]), nil)
	}
	s.Handle(host, served)
	return nil
}

// mavenFile adds a file and its checksum sidecars.
func mavenFile(served files, where, kind string, body []byte, header http.Header) {
	sum1, sum5 := sha1.Sum(body), md5.Sum(body)
	with := header.Clone()
	if with == nil {
		with = make(http.Header)
	}
	with.Set("X-Checksum-Sha1", hex.EncodeToString(sum1[:]))
	served[where] = file{body: body, kind: kind, header: with}
	served[where+".sha1"] = file{body: []byte(hex.EncodeToString(sum1[:])), kind: "text/plain", header: header}
	served[where+".md5"] = file{body: []byte(hex.EncodeToString(sum5[:])), kind: "text/plain", header: header}
}

func mavenPOM(a MavenArtifact) []byte {
	return fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>%s</groupId>
  <artifactId>%s</artifactId>
  <version>%s</version>
  <packaging>%s</packaging>
%s</project>
`, a.Group, a.Artifact, a.Version, a.Packaging, a.Body)
}

func mavenMetadata(a MavenArtifact, versions []string) []byte {
	var list strings.Builder
	for _, v := range versions {
		fmt.Fprintf(&list, "      <version>%s</version>\n", v)
	}
	return fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?>
<metadata>
  <groupId>%s</groupId>
  <artifactId>%s</artifactId>
  <versioning>
    <latest>%[3]s</latest>
    <release>%[3]s</release>
    <versions>
%s    </versions>
    <lastUpdated>%s</lastUpdated>
  </versioning>
</metadata>
`, a.Group, a.Artifact, a.Version, list.String(), published.Format("20060102150405"))
}
