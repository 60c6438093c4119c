package tests

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"larder/tests/origin"
)

func matrixJava() []matrixRow {
	distrust := regexp.MustCompile(`unable to find valid certification path`)
	java := func(client, get string) matrixRow {
		return scriptRow(matrixRow{
			client: client, needs: []string{"java"}, version: []string{"java", "-version"}, distrust: distrust,
		}, "Get.java", lines(
			"import java.io.*; import java.net.*; import java.net.http.*;",
			"class Get { public static void main(String[] args) throws Exception { URI uri = URI.create(args[0]);", get, "} }",
		), "java")
	}
	return []matrixRow{
		java("Java HttpClient", "System.out.println(HttpClient.newHttpClient().send(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.ofString()).body());"),
		java("Java HttpURLConnection", "uri.toURL().openStream().transferTo(System.out);"),
		matrixOf(mvnClient(), matrixRow{
			fetch: func(t *testing.T, dir string) command {
				cmd := mvnClient().fetch(t, dir)
				// Of a range Maven does not say why it knows no version.
				writeFile(t, dir, "pom.xml", strings.Replace(mavenConsumer, "[1.0,2.0)", "1.1", 1))
				return cmd
			},
			client: "Maven", host: mavenHost, version: []string{"mvn", "--version"}, distrust: regexp.MustCompile(`PKIX path building failed`),
		}),
		gradleRow(),
	}
}

// gradleRow resolves a jar of a repository in Maven's form.
func gradleRow() matrixRow {
	const host = "maven.test"
	return matrixRow{
		client: "Gradle", needs: []string{"gradle"}, optional: true, version: []string{"sh", "-c", "gradle --version 2>/dev/null | grep ^Gradle"}, host: host,
		distrust: regexp.MustCompile(`PKIX path building failed`),
		registry: func(t *testing.T, s *origin.Server) []string {
			must(t, origin.Maven(s, host, "", origin.MavenArtifact{Group: "test.larder", Artifact: "dep", Version: "2.1", Packaging: "jar", Payload: 10}))
			return nil
		},
		fetch: func(t *testing.T, dir string) command {
			writeFile(t, dir, "settings.gradle", "rootProject.name = 'consumer'\n")
			writeFile(t, dir, "build.gradle", lines(
				"configurations { wanted }", "repositories { maven { url 'https://"+host+"/' } }",
				"dependencies { wanted 'test.larder:dep:2.1' }",
				"task fetch(type: Copy) { from configurations.wanted; into 'lib' }",
			))
			return command{dir: dir, argv: []string{"gradle", "--no-daemon", "--gradle-user-home", filepath.Join(dir, "gradle-home"), "fetch"}}
		},
		verify: func(t *testing.T, dir string, _ result) { wantFile(t, filepath.Join(dir, "lib/dep-2.1.jar")) },
	}
}
