package tests

import (
	"path/filepath"
	"strings"
	"testing"

	"larder/tests/origin"
)

// mavenConsumer is a project for which core Maven, without any plugin of a real
// registry, resolves all there is: a parent by version range (which reads
// maven-metadata.xml), a BOM, and a build extension, which is a jar with a jar
// that it depends on.
const mavenConsumer = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <parent>
    <groupId>test.larder</groupId>
    <artifactId>parent</artifactId>
    <version>[1.0,2.0)</version>
    <relativePath/>
  </parent>
  <artifactId>consumer</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencyManagement>
    <dependencies>
      <dependency>
        <groupId>test.larder</groupId>
        <artifactId>bom</artifactId>
        <version>3.0</version>
        <type>pom</type>
        <scope>import</scope>
      </dependency>
    </dependencies>
  </dependencyManagement>
  <build>
    <extensions>
      <extension>
        <groupId>test.larder</groupId>
        <artifactId>extension</artifactId>
        <version>1.0</version>
      </extension>
    </extensions>
  </build>
</project>
`

func mvnClient() client {
	return client{
		name:  "mvn",
		needs: []string{"mvn"},
		registry: func(t *testing.T, s *origin.Server) []string {
			must(t, origin.Maven(s, mavenHost, "/maven2",
				origin.MavenArtifact{Group: "test.larder", Artifact: "parent", Version: "1.0", Packaging: "pom"},
				origin.MavenArtifact{Group: "test.larder", Artifact: "parent", Version: "1.1", Packaging: "pom"},
				origin.MavenArtifact{Group: "test.larder", Artifact: "bom", Version: "3.0", Packaging: "pom"},
				origin.MavenArtifact{
					Group: "test.larder", Artifact: "extension", Version: "1.0", Packaging: "jar", Payload: 2 << 20,
					Body: "<dependencies><dependency><groupId>test.larder</groupId><artifactId>dep</artifactId>" +
						"<version>2.1</version></dependency></dependencies>\n",
				},
				origin.MavenArtifact{Group: "test.larder", Artifact: "dep", Version: "2.1", Packaging: "jar", Payload: 10},
				// Maven adds this one to the class path of every extension itself.
				origin.MavenArtifact{Group: "org.codehaus.plexus", Artifact: "plexus-utils", Version: "1.1", Packaging: "jar", Payload: 10},
			))
			return nil
		},
		fetch: func(t *testing.T, dir string) command {
			writeFile(t, dir, "pom.xml", mavenConsumer)
			settings := writeFile(t, dir, "settings.xml", "<settings/>\n")
			return command{
				dir: dir,
				argv: []string{
					"mvn", "--batch-mode", "--settings", settings,
					"-Dmaven.repo.local=" + filepath.Join(dir, "repository"), "-Duser.home=" + dir, "validate",
				},
			}
		},
		verify: func(t *testing.T, dir string, _ result) {
			for _, path := range []string{"parent/1.1/parent-1.1.pom", "bom/3.0/bom-3.0.pom", "extension/1.0/extension-1.0.jar", "dep/2.1/dep-2.1.jar"} {
				wantFile(t, filepath.Join(dir, "repository/test/larder", path))
			}
		},
		artifact: func(e origin.Exchange) bool {
			return !strings.Contains(e.Path, "maven-metadata.xml") && e.Status == 200
		},
		artifacts: 12, // six files, and a checksum beside each
	}
}
