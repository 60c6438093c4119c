package policy

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// shape is one recorded shape of a URL and what larder shall do with it. Hosts
// are put together from a name and a domain, so that no registry is spelled out.
type shape struct {
	method string // "" is GET
	url    string
	body   RequestBody
	rule   string
	action Action
	ttl    time.Duration
}

func checkShapes(t *testing.T, preset string, shapes []shape) {
	t.Helper()
	p := mustParse(t, "presets: ["+preset+"]\n")
	reached := make(map[string]bool)
	for _, s := range shapes {
		if s.method == "" {
			s.method = "GET"
		}
		d := p.ClassifyBody(Client{}, s.method, mustURL(t, s.url), s.body)
		rule, ttl := "", time.Duration(0)
		if d.Rule != nil {
			rule, ttl = strings.TrimPrefix(d.Rule.Name, preset+"/"), d.Rule.TTL
			reached[rule] = true
		}
		if rule != s.rule || d.Action != s.action || ttl != s.ttl {
			t.Errorf("%s %s\n got %s %v ttl %v\nwant %s %v ttl %v", s.method, s.url, rule, d.Action, ttl, s.rule, s.action, s.ttl)
		}
	}
	for _, r := range p.Rules() {
		if name := strings.TrimPrefix(r.Name, preset+"/"); !reached[name] {
			t.Errorf("no shape reaches rule %s", name)
		}
	}
}

func TestPresetPyPI(t *testing.T) {
	const (
		files  = "https://files." + "pythonhosted.org"
		index  = "https://pypi" + ".org"
		digest = "/packages/b2/40/4f1f2e6d0b8c1c5e0b4a5d3c2b1a09f8e7d6c5b4a392817065f4e3d2c1b0"
	)
	checkShapes(t, "pypi", []shape{
		{url: files + digest + "/requests-2.32.3-py3-none-any.whl", rule: "files", action: Immutable},
		{url: files + digest + "/requests-2.32.3-py3-none-any.whl.metadata", rule: "files", action: Immutable},
		{url: files + digest + "/requests-2.32.3.tar.gz.asc", rule: "files", action: Immutable},
		{method: "HEAD", url: files + digest + "/requests-2.32.3.tar.gz", rule: "files", action: Immutable},
		{url: "https://test-files." + "pythonhosted.org" + digest + "/x-1.0.tar.gz", rule: "files", action: Immutable},
		{url: files + "/packages/source/f/flask/flask-1.0.tar.gz", rule: "legacy-files", action: Revalidate, ttl: time.Hour},
		{url: files + "/packages/py2.py3/s/six/six-1.0-py2.py3-none-any.whl", rule: "legacy-files", action: Revalidate, ttl: time.Hour},
		{url: files + digest[:len(digest)-1] + "/short-1.0.tar.gz", rule: "files-rest", action: Revalidate},
		{url: index + "/simple/", rule: "index", action: Revalidate, ttl: time.Minute},
		{url: index + "/simple/requests/", rule: "index", action: Revalidate, ttl: time.Minute},
		{url: "https://test.pypi" + ".org/simple/requests/", rule: "index", action: Revalidate, ttl: time.Minute},
		{url: "https://pypi." + "python.org/simple/requests/", rule: "index", action: Revalidate, ttl: time.Minute},
		{url: index + "/pypi/requests/json", rule: "index", action: Revalidate, ttl: time.Minute},
		{url: index + "/pypi/requests/2.32.3/json", rule: "index", action: Revalidate, ttl: time.Minute},
		{url: index + "/integrity/x/1.0/x-1.0.tar.gz/provenance", rule: "index", action: Revalidate, ttl: time.Minute},
		{method: "POST", url: index + "/pypi", rule: "site", action: Pass},
		{url: index + "/search/?q=x", rule: "site", action: Pass},
		// Uploads have tokens and a host of their own: never opened.
		{method: "POST", url: "https://upload.pypi" + ".org/legacy/", action: Tunnel},
	})
}

func TestPresetNPM(t *testing.T) {
	const registry, yarn = "https://registry." + "npmjs.org", "https://registry." + "yarnpkg.com"
	checkShapes(t, "npm", []shape{
		{url: registry + "/is-number/-/is-number-7.0.0.tgz", rule: "tarballs", action: Immutable},
		{url: yarn + "/is-number/-/is-number-7.0.0.tgz", rule: "tarballs", action: Immutable},
		{url: registry + "/@types/node/-/node-22.1.0.tgz", rule: "tarballs", action: Immutable},
		{url: registry + "/@types%2fnode/-/node-22.1.0.tgz", rule: "tarballs", action: Immutable},
		{url: registry + "/@types%2Fnode/-/node-22.1.0-beta.1.tgz", rule: "tarballs", action: Immutable},
		{url: yarn + "/4.18.1/packages/yarnpkg-cli/bin/yarn.js", rule: "yarn-releases", action: Immutable},
		{url: registry + "/is-number", rule: "packuments", action: Revalidate, ttl: time.Minute},
		{url: registry + "/@types%2fnode", rule: "packuments", action: Revalidate, ttl: time.Minute},
		{url: registry + "/@types/node", rule: "packuments", action: Revalidate, ttl: time.Minute},
		{url: registry + "/@types/node/latest", rule: "packuments", action: Revalidate, ttl: time.Minute},
		{url: registry + "/is-number/7.0.0", rule: "packuments", action: Revalidate, ttl: time.Minute},
		{method: "PUT", url: registry + "/is-number", rule: "packuments", action: Pass, ttl: time.Minute},
		{url: registry + "/-/npm/v1/keys", rule: "signing-keys", action: Revalidate, ttl: time.Hour},
		{url: registry + "/-/v1/search?text=x", rule: "services", action: Pass},
		{url: registry + "/-/package/is-number/dist-tags", rule: "services", action: Pass},
		{url: registry + "/-/whoami", rule: "services", action: Pass},
		{method: "POST", url: registry + "/-/npm/v1/security/advisories/bulk", rule: "services", action: Pass},
		{url: "https://replicate." + "npmjs.org/_changes?feed=continuous", rule: "services", action: Pass},
		{url: registry + "/", rule: "site", action: Pass},
	})
}

func TestPresetGo(t *testing.T) {
	const proxy, sum = "https://proxy." + "golang.org", "https://sum." + "golang.org"
	checkShapes(t, "go", []shape{
		{url: proxy + "/golang.org/x/text/@v/v0.3.0.mod", rule: "modules", action: Immutable},
		{url: proxy + "/golang.org/x/text/@v/v0.3.0.info", rule: "modules", action: Immutable},
		{url: proxy + "/golang.org/x/text/@v/v0.0.0-20170915032832-14c0d48ead0c.zip", rule: "modules", action: Immutable},
		{url: proxy + "/github.com/%21azure/sdk/@v/v68.0.0+incompatible.zip", rule: "modules", action: Immutable},
		{url: proxy + "/github.com/!azure/sdk/@v/v1.0.0-%21r%21c1.zip", rule: "modules", action: Immutable},
		{url: proxy + "/github.com/!azure/sdk/@v/v1.0.0-!r!c1.zip", rule: "modules", action: Immutable},
		{url: proxy + "/golang.org/toolchain/@v/v0.0.1-go1.26.8.linux-amd64.zip", rule: "modules", action: Immutable},
		{url: proxy + "/golang.org/x/text/@v/list", rule: "versions", action: Revalidate, ttl: time.Minute},
		{url: proxy + "/golang.org/x/text/@latest", rule: "versions", action: Revalidate, ttl: time.Minute},
		{url: proxy + "/golang.org/x/text/@v/main.info", rule: "versions", action: Revalidate, ttl: time.Minute},
		{url: proxy + "/golang.org/x/text/@v/1a2b3c4d.info", rule: "versions", action: Revalidate, ttl: time.Minute},
		{url: proxy + "/golang.org/x/text/@v/v1.info", rule: "versions", action: Revalidate, ttl: time.Minute},
		{url: proxy + "/golang.org/x/text/@v/v1.2.info", rule: "versions", action: Revalidate, ttl: time.Minute},
		{url: proxy + "/sumdb/sum.golang.example/tile/8/0/x012/345", rule: "tiles", action: Immutable},
		{url: sum + "/tile/8/1/045.p/17", rule: "tiles", action: Immutable},
		{url: sum + "/tile/8/data/x001/x234/567", rule: "tiles", action: Immutable},
		{url: sum + "/lookup/golang.org/x/text@v0.3.0", rule: "lookups", action: Revalidate, ttl: 24 * time.Hour},
		{url: proxy + "/sumdb/sum.golang.example/lookup/golang.org/x/text@v0.3.0", rule: "lookups", action: Revalidate, ttl: 24 * time.Hour},
		{url: sum + "/latest", rule: "tree", action: Revalidate, ttl: time.Minute},
		{url: proxy + "/sumdb/sum.golang.example/latest", rule: "tree", action: Revalidate, ttl: time.Minute},
		{url: proxy + "/sumdb/sum.golang.example/supported", rule: "sumdb-support", action: Revalidate, ttl: time.Hour},
		{url: proxy + "/", rule: "site", action: Pass},
	})
}

func TestPresetCrates(t *testing.T) {
	const index, static = "https://index." + "crates.io", "https://static." + "crates.io"
	checkShapes(t, "crates", []shape{
		{url: static + "/crates/serde/1.0.219/download", rule: "crates", action: Immutable},
		{url: static + "/mirror/api/cargo/v1/crates/serde/1.0.219/download", rule: "crates", action: Immutable},
		{url: static + "/crates/serde/serde-1.0.219.crate", rule: "crates", action: Immutable},
		{url: static + "/crates/libz-sys/libz-sys-1.1.0%2Bzlib.crate", rule: "crates", action: Immutable},
		{url: index + "/config.json", rule: "config", action: Revalidate, ttl: 5 * time.Minute},
		{url: index + "/se/rd/serde", rule: "index", action: Revalidate, ttl: time.Minute},
		{url: index + "/cr/at/crates", rule: "index", action: Revalidate, ttl: time.Minute},
		{url: index + "/3/l/log", rule: "index", action: Revalidate, ttl: time.Minute},
		{url: index + "/2/cc", rule: "index", action: Revalidate, ttl: time.Minute},
		{url: index + "/1/a", rule: "index", action: Revalidate, ttl: time.Minute},
		{url: static + "/db-dump.tar.gz", rule: "site", action: Pass},
		// The API has tokens and is no business of ours.
		{method: "PUT", url: "https://crates" + ".io/api/v1/crates/new", action: Tunnel},
	})
}

func TestPresetMaven(t *testing.T) {
	const central = "https://repo." + "maven.apache.org/maven2"
	const junit = central + "/junit/junit"
	checkShapes(t, "maven", []shape{
		{url: junit + "/4.13.2/junit-4.13.2.jar", rule: "releases", action: Immutable},
		{url: junit + "/4.13.2/junit-4.13.2.pom", rule: "releases", action: Immutable},
		{url: junit + "/4.13.2/junit-4.13.2.pom.sha1", rule: "releases", action: Immutable},
		{url: junit + "/4.13.2/junit-4.13.2-sources.jar.asc.md5", rule: "releases", action: Immutable},
		{url: junit + "/4.13.2/junit-4.13.2.module", rule: "releases", action: Immutable},
		{url: "https://repo1." + "maven.org/maven2/org/scala-lang/scala-library_2.13/1.0-RC1/scala-library_2.13-1.0-RC1.jar", rule: "releases", action: Immutable},
		{url: central + "/io/netty/netty-tc/4.1.0.Final/netty-tc-4.1.0.Final-linux-x86_64.jar", rule: "releases", action: Immutable},
		{url: central + "/org/apache/maven/apache-maven/3.9.9/apache-maven-3.9.9-bin.tar.gz", rule: "releases", action: Immutable},
		{url: junit + "/maven-metadata.xml", rule: "metadata", action: Revalidate},
		{url: junit + "/maven-metadata.xml.sha1", rule: "metadata", action: Revalidate},
		{url: junit + "/4.14-SNAPSHOT/maven-metadata.xml", rule: "metadata", action: Revalidate},
		{url: central + "/archetype-catalog.xml", rule: "metadata", action: Revalidate},
		{url: central + "/.index/nexus-maven-repository-index.gz", rule: "metadata", action: Revalidate},
		{url: junit + "/4.14-SNAPSHOT/junit-4.14-SNAPSHOT.jar", rule: "snapshots", action: Revalidate},
		{url: junit + "/4.14-SNAPSHOT/junit-4.14-20240102.030405-6.jar", rule: "snapshots", action: Revalidate},
		{url: junit + "/", rule: "repository", action: Revalidate},
		{url: junit + "/4.13.2/", rule: "repository", action: Revalidate},
		{url: "https://search." + "maven.org/solrsearch/select?q=guice", rule: "site", action: Pass},
	})
}

func TestPresetGradle(t *testing.T) {
	const plugin = "/com/example/p/1.0/" + "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" + "/p-1.0.jar"
	checkShapes(t, "gradle", []shape{
		{url: "https://services.gradle.org/distributions/gradle-8.10-bin.zip", rule: "distributions", action: Immutable},
		{url: "https://services.gradle.org/distributions/gradle-8.10-bin.zip.sha256", rule: "distributions", action: Immutable},
		{url: "https://downloads.gradle.org/distributions/gradle-8.10-rc-1-all.zip", rule: "distributions", action: Immutable},
		{url: "https://services.gradle.org/distributions-snapshots/gradle-8.11-20240901-bin.zip", rule: "versions", action: Revalidate, ttl: 5 * time.Minute},
		{url: "https://services.gradle.org/versions/current", rule: "versions", action: Revalidate, ttl: 5 * time.Minute},
		{url: "https://plugins-artifacts.gradle.org" + plugin, rule: "plugin-files", action: Immutable},
		{url: "https://plugins.gradle.org/m2/com/example/p/maven-metadata.xml", rule: "plugin-metadata", action: Revalidate},
		{url: "https://plugins.gradle.org/m2/com/example/p/1.0/p-1.0.pom", rule: "plugins", action: Revalidate, ttl: 5 * time.Minute},
		{url: "https://plugins.gradle.org/search?term=x", rule: "site", action: Pass},
	})
}

func TestPresetDebian(t *testing.T) {
	const deb, security = "http://deb." + "debian.org/debian", "http://security." + "debian.org/debian-security"
	const snapshot = "http://snapshot." + "debian.org"
	const sha256 = "/by-hash/SHA256/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	checkShapes(t, "debian", []shape{
		{url: deb + "/dists/bookworm/main/binary-amd64" + sha256, rule: "by-hash", action: Immutable},
		{url: deb + "/pool/main/c/curl/curl_7.88.1-10%2bdeb12u5_amd64.deb", rule: "pool", action: Immutable},
		{url: deb + "/pool/main/g/g%2b%2b/g++_4%3a12.2.0-3_amd64.deb", rule: "pool", action: Immutable},
		{url: security + "/pool/updates/main/o/openssl/openssl_3.0.15-1%7edeb12u1_amd64.deb", rule: "pool", action: Immutable},
		{url: deb + "/pool/main/c/curl/curl_7.88.1-10.dsc", rule: "pool", action: Immutable},
		{url: deb + "/pool/main/c/curl/curl_7.88.1.orig.tar.gz", rule: "pool", action: Immutable},
		{url: deb + "/pool/main/c/curl/curl_7.88.1.orig.tar.gz.asc", rule: "pool", action: Immutable},
		{url: deb + "/pool/main/c/curl/curl_7.88.1-10.debian.tar.xz", rule: "pool", action: Immutable},
		{url: "http://ftp.de." + "debian.org/debian/pool/main/d/dpkg/dpkg-dev_1.21.udeb", rule: "pool", action: Immutable},
		{url: "http://cdn-fastly.deb." + "debian.org/debian/dists/bookworm/InRelease", rule: "dists", action: Revalidate},
		{url: deb + "/dists/bookworm/InRelease", rule: "dists", action: Revalidate},
		{url: deb + "/dists/bookworm/Release", rule: "dists", action: Revalidate},
		{url: deb + "/dists/bookworm/Release.gpg", rule: "dists", action: Revalidate},
		{url: deb + "/dists/bookworm/main/binary-amd64/Packages.xz", rule: "dists", action: Revalidate},
		{url: security + "/dists/bookworm-security/main/i18n/Translation-en", rule: "dists", action: Revalidate},
		{url: "https://deb." + "debian.org/debian/dists/bookworm/InRelease", rule: "dists", action: Revalidate},
		{url: snapshot + "/archive/debian/20250520T000000Z/dists/bookworm/InRelease", rule: "snapshots", action: Immutable},
		{url: snapshot + "/file/a9993e364706816aba3e25717850c26c9cd0d89d", rule: "snapshots", action: Immutable},
		{url: snapshot + "/archive/debian/20250520T000000Z/", rule: "snapshot-lists", action: Revalidate},
		{url: deb + "/README", rule: "rest", action: Revalidate},
		// Named by no rule.
		{url: "https://salsa.debian.org/x", action: Tunnel},
		{url: "https://bugs.debian.org/1", action: Tunnel},
	})
}

func TestPresetUbuntu(t *testing.T) {
	const archive = "http://archive.ubuntu.com/ubuntu"
	const sha256 = "/by-hash/SHA256/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	checkShapes(t, "ubuntu", []shape{
		{url: archive + "/dists/noble/main/binary-amd64" + sha256, rule: "by-hash", action: Immutable},
		{url: "http://de.archive.ubuntu.com/ubuntu/pool/main/c/curl/curl_8.5.0-2ubuntu10_amd64.deb", rule: "pool", action: Immutable},
		{url: "http://eu-west-1.ec2.archive.ubuntu.com/ubuntu/pool/main/c/curl/curl_8.5.0-2ubuntu10_amd64.deb", rule: "pool", action: Immutable},
		{url: "http://ddebs.ubuntu.com/pool/main/c/curl/curl-dbgsym_8.5.0_amd64.ddeb", rule: "pool", action: Immutable},
		{url: "https://ppa.launchpadcontent.net/o/p/ubuntu/pool/main/x/x/x_1.0_amd64.deb", rule: "pool", action: Immutable},
		{url: "http://security.ubuntu.com/ubuntu/dists/noble-security/InRelease", rule: "dists", action: Revalidate},
		{url: "http://ports.ubuntu.com/dists/noble/Release", rule: "dists", action: Revalidate},
		{url: "https://snapshot.ubuntu.com/ubuntu/20240301T030400Z/dists/noble/InRelease", rule: "snapshots", action: Immutable},
		{url: "https://snapshot.ubuntu.com/ubuntu/", rule: "snapshot-lists", action: Revalidate},
		{url: archive + "/", rule: "rest", action: Revalidate},
		{url: "https://esm.ubuntu.com/apps/ubuntu/dists/noble/InRelease", action: Tunnel},
		{url: "https://login.ubuntu.com/", action: Tunnel},
	})
}

func TestPresetsKeepTheirPromises(t *testing.T) {
	presets, err := Presets()
	if err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`^https://[^/]+/`)
	for _, p := range presets {
		if len(p.Docs) == 0 || strings.Contains(p.Summary, "\n") || !strings.Contains(p.Text, "name: "+p.Name) {
			t.Errorf("preset %s is incomplete: %+v", p.Name, p)
		}
		for _, doc := range p.Docs {
			if !address.MatchString(doc) {
				t.Errorf("preset %s: doc %q is no https URL", p.Name, doc)
			}
		}
		for _, r := range p.Rules() {
			if r.Preset != p.Name || !strings.HasPrefix(r.Name, p.Name+"/") || r.Position.Line == 0 {
				t.Errorf("rule %+v does not know where it comes from", r)
			}
			if r.NegativeTTL > 10*time.Second {
				t.Errorf("rule %s remembers a 404 for %v", r.Name, r.NegativeTTL)
			}
			if r.Action == Revalidate && r.TTL > 0 && r.StaleIfError < 24*time.Hour {
				t.Errorf("rule %s is an index without stale_if_error of 24h", r.Name)
			}
			if slices.Contains(r.Hosts, "*") {
				t.Errorf("rule %s opens every host", r.Name)
			}
		}
		// Every host of a preset has a rule for what no path rule takes.
		compiled := mustParse(t, "presets: ["+p.Name+"]\n")
		if last := p.Rules()[len(p.Rules())-1]; len(last.Paths) > 0 {
			t.Errorf("preset %s ends with a rule for some paths only", p.Name)
		}
		if compiled.Interceptable() == nil {
			t.Errorf("preset %s cannot be bounded by name constraints", p.Name)
		}
	}
}
