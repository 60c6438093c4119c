package certs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// run runs the script as it is run on a machine, without LARDER_ROOT.
func (m *machine) run(code int, args ...string) string {
	m.t.Helper()
	argv := append(append([]string{}, m.shell...), m.script)
	cmd := exec.Command(argv[0], append(argv[1:], args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + m.home, "JAVA_HOME=" + os.Getenv("JAVA_HOME")}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != code {
		m.t.Fatalf("setup.sh %s: %v, want code %d\n%s", args, err, code, out)
	}
	return string(out)
}

// TestRootWritesIntoNoHomeOfOthers: who owns a folder can lead what is written there
// elsewhere, between any two steps of a script.
func TestRootWritesIntoNoHomeOfOthers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can write into homes of others")
	}
	for name, shell := range shells(t) {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, shell, nil, newRoot(t, "one"))
			jdk := filepath.Join(m.home, "jdk")
			for _, folder := range []string{".gradle", ".m2", "jdk/lib/security", "jdk/bin"} {
				if err := os.MkdirAll(filepath.Join(m.home, folder), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			ran := filepath.Join(m.home, "ran")
			writeFile(t, filepath.Join(jdk, "lib/security/cacerts"), []byte("x"))
			writeFile(t, filepath.Join(jdk, "bin/keytool"), []byte("#!/bin/sh\n: >"+ran+"\n"))
			if err := os.Chmod(filepath.Join(jdk, "bin/keytool"), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("JAVA_HOME", jdk)
			args := []string{"--ca", m.ca, "--trust-on-first-use", "--dry-run", "--only", "java,maven,gradle", "--home", m.home}
			said := m.run(0, args...)
			if !strings.Contains(said, "would write "+m.home+"/.gradle/gradle.properties") {
				t.Errorf("root's own home is left alone:\n%s", said)
			}
			if err := os.Remove(ran); err != nil {
				t.Fatalf("the keytool of root's own JDK is not run: %v", err)
			}
			if err := os.Chown(m.home, 65534, 65534); err != nil {
				t.Fatal(err)
			}
			said = m.run(0, args...)
			if strings.Contains(said, "would write "+m.home) || !strings.Contains(said, "--user") {
				t.Errorf("another's home is written into:\n%s", said)
			}
			if _, err := os.Stat(ran); err == nil {
				t.Error("root runs the keytool of somebody else")
			}
		})
	}
}

func TestSettingsOfAUserAreWrittenAndUndone(t *testing.T) {
	for name, shell := range shells(t) {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, shell, nil, newRoot(t, "one"))
			m.home = filepath.Join(m.home, "user")
			m.root = m.home // what tree and read look at
			m.write(".gradle/gradle.properties", "org.gradle.daemon=false\n")
			m.write(".m2/settings.xml", "<settings>\n</settings>\n")
			before := m.tree()
			m.run(0, "--user", "--dry-run")
			if diff := cmp.Diff(before, m.tree()); diff != "" {
				t.Errorf("--dry-run changes (-before +after):\n%s", diff)
			}
			m.run(0, "--user")
			if s := m.read(".gradle/gradle.properties"); !strings.Contains(s, "systemProp.https.proxyHost=larder.test\n") {
				t.Errorf("gradle.properties:\n%s", s)
			}
			if s := m.read(".m2/settings.xml"); !strings.Contains(s, "<host>larder.test</host>") {
				t.Errorf("settings.xml:\n%s", s)
			}
			if said := m.run(0, "--user"); !strings.Contains(said, "nothing to change") {
				t.Errorf("a second run says %q", said)
			}
			m.run(0, "--user", "--undo")
			if diff := cmp.Diff(before, m.tree()); diff != "" {
				t.Errorf("after --undo (-before +after):\n%s", diff)
			}
			m.run(2, "--user", "--files", m.home)
		})
	}
}

func TestFilesAreNotPutWhereOthersWrite(t *testing.T) {
	for name, shell := range shells(t) {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, shell, nil, newRoot(t, "one"))
			dir := filepath.Join(m.home, "files")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			args := []string{"--files", dir, "--ca", m.ca, "--trust-on-first-use"}
			m.run(0, args...)
			for _, mode := range []os.FileMode{0o775, 0o757} {
				if err := os.Chmod(dir, mode); err != nil {
					t.Fatal(err)
				}
				if said := m.run(1, args...); !strings.Contains(said, "chmod go-w "+dir) {
					t.Errorf("mode %o: %s", mode, said)
				}
			}
			if os.Getuid() != 0 {
				return
			}
			if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, 65534, 65534)); err != nil {
				t.Fatal(err)
			}
			if said := m.run(1, args...); !strings.Contains(said, "a folder of yours") {
				t.Errorf("a folder of somebody else's: %s", said)
			}
		})
	}
}
