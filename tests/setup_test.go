package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// requireMounts skips the test where a mount namespace with overlays is not to be
// had, and fails it where it is promised (.ci/run).
func requireMounts(t *testing.T) {
	t.Helper()
	requireClient(t, "unshare", "chroot", "curl", "wget")
	if out, err := inMounts("true").CombinedOutput(); err != nil {
		reason := fmt.Sprintf("mount namespaces with overlays are not to be had here: %v: %s", err, out)
		if os.Getenv("LARDER_REQUIRE_CLIENTS") != "" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
}

// machineCopy mounts a copy of this machine at $copy, in which writes stay, and runs
// what follows. What was written is in $written.
const machineCopy = `set -e
mount -t tmpfs tmpfs /mnt
copy=/mnt/root written=/mnt/written
mkdir $copy $written /mnt/work
mount -t overlay -o lowerdir=/,upperdir=$written,workdir=/mnt/work overlay $copy
for dir in /proc /dev /sys /tmp; do mount --rbind $dir $copy$dir; done
# nobody's environment
there() { chroot $copy env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"; }
`

// inMounts is a shell in a mount namespace of its own, as root of a user namespace
// if need be.
func inMounts(script string, args ...string) *exec.Cmd {
	argv := []string{"unshare", "--mount"}
	if os.Geteuid() != 0 {
		argv = append(argv, "--user", "--map-root-user")
	}
	argv = append(append(argv, "sh", "-c", machineCopy+script, "sh"), args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = hermetic("/root")
	return cmd
}

// TestSetupOfThisMachine runs setup.sh in a copy of this machine: afterwards clients
// that are told of the proxy alone, or read /etc/environment, are served; a second
// run changes nothing; and --undo restores every byte.
func TestSetupOfThisMachine(t *testing.T) {
	t.Parallel()
	requireMounts(t)
	requireClient(t, "java", "keytool", "python3")
	s, _ := kitService(t)
	dir := privateDir(t)
	trust, err := filepath.Abs("../certs/testdata/Trust.java")
	must(t, err)
	cmd := inMounts(`proxy=$1 fingerprint=$2 url=$3 dir=$4 trust=$5
mkdir -p $copy/opt/jdk/lib/security $copy/opt/plain/lib/security $copy/usr/lib/systemd/system
cp -L /etc/ssl/certs/java/cacerts $copy/opt/jdk/lib/security/cacerts
there keytool -importkeystore -srckeystore /opt/jdk/lib/security/cacerts -srcstorepass changeit -destkeystore /opt/plain/lib/security/cacerts \
	-deststoretype PKCS12 -deststorepass changeit -J-Dkeystore.pkcs12.certProtectionAlgorithm=NONE -J-Dkeystore.pkcs12.macAlgorithm=NONE 2>/dev/null
there update-ca-certificates >/dev/null 2>&1 # whatever has been waiting for it
echo '[Service]' >$copy/usr/lib/systemd/system/docker.service
find $written | sort >$dir/before
(cd $written && find . ! -type d | sort | xargs tar cf $dir/before.tar) # what a copy begins with

echo "before: $(there https_proxy=$proxy curl -sS -o /dev/null -w '%{http_code}' $url 2>&1 || :)"
there curl -fsS -o /tmp/${dir##*/}.sh $proxy/setup.sh
script=/tmp/${dir##*/}.sh
there sh $script --fingerprint $fingerprint 2>$dir/first
there sh $script 2>$dir/second

echo "curl: $(there https_proxy=$proxy curl -sS -o /dev/null -w '%{http_code}' $url)"
echo "wget: $(there https_proxy=$proxy wget -q -O - $url | wc -l)"
echo "python: $(there https_proxy=$proxy python3 -c "import urllib.request; print(urllib.request.urlopen('$url').status)")"
echo "environment: $(there sh -c "set -a; . /etc/environment; curl -sS -o /dev/null -w '%{http_code}' $url")"
echo "profile: $(there sh -c ". /etc/profile.d/larder.sh; curl -sS -o /dev/null -w '%{http_code}' $url")"
for store in jdk plain; do
	echo "java, $store: $(there java -Djavax.net.ssl.trustStore=/opt/$store/lib/security/cacerts $trust 2>&1 | grep -c 'CN=larder root CA')"
done
echo "java: $(there java $trust | grep -c 'CN=larder root CA')"
echo "apt: $(there apt-config dump | grep -c "^Acquire::https\?::Proxy \"$proxy\";")"
cat $copy/etc/systemd/system/docker.service.d/larder.conf | grep HTTPS_PROXY

there sh $script --undo 2>$dir/undone
rm -f $script
find $written | grep -v /root/.npm | sort >$dir/after
mkdir /mnt/was
tar xf $dir/before.tar -C /mnt/was
cd $written
find . ! -type d | while read -r f; do
	other=/$f
	if [ -e "/mnt/was/$f" ] || [ -L "/mnt/was/$f" ]; then other=/mnt/was/$f; fi
	case $(stat -c %F "$f") in
	'symbolic link') [ "$(readlink "$f")" = "$(readlink "$other")" ] || echo "differs: $f" ;;
	'character special file') [ ! -e "$other" ] || echo "gone: $f" ;; # a whiteout
	*) cmp -s "$f" "$other" && [ "$(stat -c '%a %u %g' "$f")" = "$(stat -c '%a %u %g' "$other")" ] || echo "differs: $f" ;;
	esac
done | grep -v '^[a-z]*: ./var/\(log\|lib/dpkg\|cache\)/' || :
find . -type d | while read -r f; do [ -d "/$f" ] || grep -qx "$written${f#.}" $dir/before || echo "left: $f"; done
`, "http://"+s.proxy, s.fingerprint(t), artifactURL("/echo"), dir, trust)
	out, err := cmd.Output()
	said := func(name string) string {
		text, _ := os.ReadFile(filepath.Join(dir, name)) // "" where it did not get so far
		return string(text)
	}
	if err != nil {
		t.Fatalf("%v\n%s\n%s\n%s\n%s", err, out, said("first"), said("second"), said("undone"))
	}
	got := map[string]string{}
	for line := range strings.Lines(string(out)) {
		what, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if what == "differs" || what == "left" || what == "gone" {
			t.Errorf("after --undo %s %s", value, what)
		}
		got[what] = value
	}
	for what, want := range map[string]string{
		"curl": "200", "wget": "1", "python": "200", "environment": "200", "profile": "200",
		"java": "1", "java, jdk": "1", "java, plain": "1", "apt": "2",
	} {
		if got[what] != want {
			t.Errorf("%s: %q, want %q", what, got[what], want)
		}
	}
	if !strings.Contains(got["before"], "60") || !strings.Contains(string(out), `Environment="HTTPS_PROXY=http://`+s.proxy+`"`) {
		t.Errorf("output:\n%s", out)
	}
	if !strings.Contains(said("second"), "nothing to change") {
		t.Errorf("a second run says:\n%s", said("second"))
	}
	if t.Failed() {
		t.Logf("output:\n%s\nfirst run:\n%s\nundone:\n%s", out, said("first"), said("undone"))
	}
}

// foreignSystems are those whose trust stores this machine has not, each with the
// programs of its own as scripts that do with folders and bundle what those do.
func foreignSystems() map[string]map[string]string {
	bundleOf := func(anchors, bundle string) string {
		return "#!/bin/sh\nset -e\ncat /usr/share/roots.pem " + anchors + "/* > " + bundle + ".new 2>/dev/null || :\nmv " + bundle + ".new " + bundle + "\n"
	}
	return map[string]map[string]string{
		"Fedora": {
			"/usr/bin/update-ca-trust": "#!/bin/sh\n[ \"$1\" = extract ] || exit 2\n" +
				bundleOf("/etc/pki/ca-trust/source/anchors", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
			"/etc/pki/ca-trust/source/anchors/README":           "",
			"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem": "roots\n",
			"/etc/pki/tls/certs/ca-bundle.crt":                  "-> /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
			"/etc/dnf/dnf.conf":                                 "[main]\n",
			"/usr/lib/systemd/system/containerd.service":        "",
		},
		"SUSE": {
			"/usr/sbin/update-ca-certificates":       bundleOf("/etc/pki/trust/anchors", "/var/lib/ca-certificates/ca-bundle.pem"),
			"/etc/pki/trust/anchors/README":          "",
			"/var/lib/ca-certificates/ca-bundle.pem": "roots\n",
			"/etc/ssl/ca-bundle.pem":                 "-> ../../var/lib/ca-certificates/ca-bundle.pem",
		},
		"Arch": {
			"/usr/bin/trust":                                   "#!/bin/sh\nexit 3\n", // update-ca-trust goes before it
			"/usr/bin/update-ca-trust":                         "#!/bin/sh\n[ $# = 0 ] || exit 2\n" + bundleOf("/etc/ca-certificates/trust-source/anchors", "/etc/ssl/certs/ca-certificates.crt"),
			"/etc/ca-certificates/trust-source/anchors/README": "",
			"/etc/ssl/certs/ca-certificates.crt":               "roots\n",
		},
		"Alpine": {
			"/usr/sbin/update-ca-certificates":   bundleOf("/usr/local/share/ca-certificates", "/etc/ssl/certs/ca-certificates.crt"),
			"/etc/ssl/certs/ca-certificates.crt": "roots\n",
			"/etc/ssl/cert.pem":                  "-> certs/ca-certificates.crt",
			"/etc/init.d/docker":                 "#!/sbin/openrc-run\n",
			"/etc/conf.d/docker":                 "DOCKER_OPTS=\n",
		},
		"p11-kit alone": {
			"/usr/bin/trust": `#!/bin/sh
set -e
[ "$1" = anchor ]
sum=$(sha256sum < "$3" | cut -c1-64)
case $2 in
--store) cp "$3" /etc/p11/$sum.pem ;;
--remove) rm /etc/p11/$sum.pem ;;
esac
cat /usr/share/roots.pem $(ls /etc/p11/*.pem 2>/dev/null) > /etc/ssl/cert.pem
`,
			"/etc/p11/README":   "",
			"/etc/ssl/cert.pem": "roots\n",
		},
		"no trust store": {"/etc/hostname": "bare\n"},
	}
}

// newRoot makes a folder that chroot takes for a machine with busybox and files.
func newRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := privateDir(t)
	busybox, err := exec.LookPath("busybox")
	must(t, err)
	program, err := os.ReadFile(busybox)
	must(t, err)
	mkdir(t, root, "bin")
	must(t, os.WriteFile(filepath.Join(root, "bin", "busybox"), program, 0o755))
	for _, applet := range strings.Fields("sh cat mv ls rm cp mkdir rmdir chmod chown ln cut tr sed awk grep sort head tail sha256sum base64 mktemp readlink dirname basename stat id env wget wc touch chroot") {
		must(t, os.Symlink("busybox", filepath.Join(root, "bin", applet)))
	}
	writeFile(t, root, "/usr/share/roots.pem", "roots\n")
	mkdir(t, root, "tmp")
	mkdir(t, root, "root")
	mkdir(t, root, "var", "lib")
	mkdir(t, root, "dev")
	writeFile(t, root, "/dev/null", "")
	for path, content := range files {
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			mkdir(t, filepath.Dir(filepath.Join(root, path)))
			must(t, os.Symlink(target, filepath.Join(root, path)))
			continue
		}
		path = writeFile(t, root, path, content)
		if strings.HasPrefix(content, "#!") {
			must(t, os.Chmod(path, 0o755))
		}
	}
	return root
}

// listing is what is below root: names, kinds, contents.
func listing(t *testing.T, root string) string {
	t.Helper()
	res := command{dir: "/", argv: []string{"sh", "-c", `cd "$0" && find . | sort && find . -type l -exec readlink {} + && find . -type f ! -path ./dev/null ! -path './bin/*' | sort | xargs sha256sum && find . -printf '%m %p\n' | sort`, root}}.run(t)
	if res.code != 0 {
		t.Fatal(res)
	}
	return res.stdout
}

// TestSetupOfOtherSystems runs setup.sh with nothing but busybox, in each system and
// on its image from outside: the root comes into the store by the system's own tool,
// and goes again.
func TestSetupOfOtherSystems(t *testing.T) {
	t.Parallel()
	requireMounts(t)
	requireClient(t, "busybox")
	s, _ := kitService(t)
	script := command{dir: privateDir(t), argv: []string{"curl", "-fsS", "http://" + s.proxy + "/setup.sh"}}.run(t).stdout
	pem := readFile(t, filepath.Join(s.state, "trust", "ca.pem"))
	for name, files := range foreignSystems() {
		for where, argv := range map[string][]string{
			// There a static busybox lacks the libraries by which it looks names up.
			"inside": {"chroot", "$root", "env", "-i", "PATH=/bin", "sh", "/setup.sh", "--ca", "/ca.pem"},
			"image":  {"env", "-i", "PATH=$root/bin", "LARDER_ROOT=$root", "sh", "$root/setup.sh"}, // with busybox's wget
		} {
			t.Run(name+" "+where, func(t *testing.T) {
				root := newRoot(t, files)
				writeFile(t, root, "setup.sh", script)
				writeFile(t, root, "ca.pem", pem)
				run := func(args ...string) string {
					t.Helper()
					all := []string{"unshare", "--mount"}
					if os.Geteuid() != 0 {
						all = append(all, "--user", "--map-root-user")
					}
					for _, arg := range argv {
						all = append(all, strings.ReplaceAll(arg, "$root", root))
					}
					res := command{dir: privateDir(t), argv: append(all, args...)}.run(t)
					if res.code != 0 {
						t.Fatalf("setup.sh %s: %v", args, res)
					}
					return res.stderr
				}
				before := listing(t, root)
				first := run("--fingerprint", s.fingerprint(t))
				after := listing(t, root)
				bundle := readBelow(t, root, "/etc/larder/trust/bundle.pem")
				if !strings.HasSuffix(bundle, pem) || name != "no trust store" && bundle != "roots\n"+pem {
					t.Errorf("bundle.pem is\n%s\nafter\n%s", bundle, first)
				}
				if name == "no trust store" != strings.Contains(first, "there is no trust store here") || strings.Contains(first, "failed") {
					t.Errorf("it says\n%s", first)
				}
				if out := run(); !strings.Contains(out, "nothing to change") || listing(t, root) != after {
					t.Errorf("a second run: %s", out)
				}
				run("--undo")
				if got := listing(t, root); got != before {
					t.Errorf("after --undo (-before +after):\n%s", cmp.Diff(before, got))
				}
			})
		}
	}
}

// readBelow reads a file whose links lead below root.
func readBelow(t *testing.T, root, path string) string {
	t.Helper()
	for range 5 {
		target, err := os.Readlink(filepath.Join(root, path))
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return readFile(t, filepath.Join(root, path))
}
