package certs

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

// weird are values that break careless quoting.
func weird() []string {
	return []string{
		"", "plain", "a b", "it's", `"`, `\`, `\'`, `'\''`, "$HOME ${X} $(id) `id`", "%h %%", "a\nb", "a\r\nb\n", "\ttab",
		"#no comment", "a=b", "a<<EOF", "LARDER_END\nx\nLARDER_END", "-Dx=a|*.b|[::1]", "ünï", "!history", "*", "~", "a;b&c|d>e",
		"\\n", "trailing\\", " lead", "trail ", "'", "''", "\x01\x7f",
	}
}

func format1(t *testing.T, name, value string) string {
	t.Helper()
	var b strings.Builder
	if err := Format(&b, name, []Var{{Name: "X", Value: value}, {Name: "GONE", Unset: true}}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestShellFormatsSurviveTheShell has shells evaluate what they are given.
func TestShellFormatsSurviveTheShell(t *testing.T) {
	print := `; printf %s "$X" > "$OUT"; printf %s "${GONE-unset}" > "$OUT.gone"`
	for _, tt := range []struct {
		format, shell, load string
		gone                string
	}{
		{"sh", "sh", `eval "$(cat "$IN")"`, "unset"},
		{"sh", "bash", `eval "$(cat "$IN")"`, "unset"},
		{"sh", "dash", `. "$IN"`, "unset"},
		{"dotenv", "sh", `. "$IN"`, ""},
		{"fish", "fish", `source "$IN"; set -q GONE; or set GONE unset; printf %s "$X" > "$OUT"; printf %s "$GONE" > "$OUT.gone"`, "unset"},
	} {
		shell, err := exec.LookPath(tt.shell)
		if err != nil {
			t.Logf("%s: %v", tt.format, err)
			continue
		}
		for _, value := range weird() {
			dir := t.TempDir()
			in := writeFile(t, filepath.Join(dir, "in"), []byte(format1(t, tt.format, value)))
			script := tt.load
			if tt.format != "fish" {
				script += print
			}
			cmd := exec.Command(shell, "-c", script)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nowhere", "GONE=still here", "IN=" + in, "OUT=" + filepath.Join(dir, "out")}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s in %s: %q: %v, %s", tt.format, tt.shell, value, err, out)
				continue
			}
			got, _ := os.ReadFile(filepath.Join(dir, "out"))
			gone, _ := os.ReadFile(filepath.Join(dir, "out.gone"))
			if string(got) != value || string(gone) != tt.gone {
				t.Errorf("%s in %s: %q becomes %q, the unset variable is %q", tt.format, tt.shell, value, got, gone)
			}
		}
	}
}

// FuzzFormatSh has the shell tell what it understood.
func FuzzFormatSh(f *testing.F) {
	for _, value := range weird() {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		var b strings.Builder
		err := Format(&b, "sh", []Var{{Name: "X", Value: value}})
		if strings.ContainsRune(value, 0) {
			if err == nil {
				t.Error("a zero byte is accepted")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("sh", "-c", b.String()+`printf %s "$X"`).Output()
		if err != nil || string(out) != value {
			t.Errorf("%q becomes %q, %v", value, out, err)
		}
	})
}

// FuzzFormats reads each format back with a reader written from its reference.
func FuzzFormats(f *testing.F) {
	for _, value := range weird() {
		f.Add(value)
	}
	readers := map[string]func(*testing.T, string) string{
		"github": readGitHub, "gitlab": readGitLab, "systemd": readSystemd, "docker": readDocker, "json": readJSON, "fish": readFish,
	}
	f.Fuzz(func(t *testing.T, value string) {
		for name, read := range readers {
			var b strings.Builder
			err := Format(&b, name, []Var{{Name: "X", Value: value}})
			unicode := name == "json" || name == "gitlab"
			lines := strings.ContainsAny(value, "\r\n")
			if strings.ContainsRune(value, 0) || unicode && !utf8.ValidString(value) || name == "docker" && lines {
				if err == nil {
					t.Errorf("%s accepts %q", name, value)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %q: %v", name, value, err)
			} else if got := read(t, b.String()); got != value {
				t.Errorf("%s: %q becomes %q in\n%s", name, value, got, b.String())
			}
		}
	})
}

// readGitHub is actions/runner's FileCommandManager: a line with = before any
// << is a variable, else the value goes on to the line that is the delimiter.
func readGitHub(t *testing.T, s string) string {
	line, rest, _ := strings.Cut(s, "\n")
	equals, heredoc := strings.Index(line, "="), strings.Index(line, "<<")
	if equals >= 0 && (heredoc < 0 || equals < heredoc) {
		if rest != "" {
			t.Errorf("more than a line: %q", s)
		}
		return line[equals+1:]
	}
	end := line[heredoc+2:]
	var value []string
	for {
		if line, rest, _ = strings.Cut(rest, "\n"); line == end {
			break
		}
		value = append(value, line)
		if rest == "" {
			t.Fatalf("no delimiter in %q", s)
		}
	}
	if rest != "" {
		t.Errorf("the delimiter occurs in the value: %q", s)
	}
	return strings.Join(value, "\n")
}

func readGitLab(t *testing.T, s string) string {
	var file struct {
		Variables map[string]string `yaml:"variables"`
	}
	if err := yaml.Unmarshal([]byte(s), &file); err != nil {
		t.Fatalf("%v in\n%s", err, s)
	}
	value := file.Variables["X"]
	if strings.Contains(strings.ReplaceAll(value, "$$", ""), "$") {
		t.Errorf("GitLab would expand %q", value)
	}
	return strings.ReplaceAll(value, "$$", "$")
}

func readSystemd(t *testing.T, s string) string {
	s, header := strings.CutPrefix(s, "[Service]\nEnvironment=\"X=")
	s, footer := strings.CutSuffix(s, "\"\n")
	if !header || !footer || strings.ContainsAny(s, "\r\n") {
		t.Fatalf("not one quoted assignment: %q", s)
	}
	var b bytes.Buffer
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			t.Fatalf("the quotes end early: %q", s)
		case c == '%':
			if i++; i == len(s) || s[i] != '%' {
				t.Fatalf("a specifier in %q", s)
			}
			b.WriteByte('%')
		case c == '\\':
			i++
			b.WriteByte(map[byte]byte{'n': '\n', 'r': '\r', 't': '\t', '"': '"', '\\': '\\'}[s[i]])
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func readDocker(t *testing.T, s string) string {
	_, value, ok := strings.Cut(strings.TrimSuffix(s, "\n"), "=")
	if !ok {
		t.Fatalf("no assignment: %q", s)
	}
	return value
}

func readJSON(t *testing.T, s string) string {
	var vars map[string]string
	if err := json.Unmarshal([]byte(s), &vars); err != nil {
		t.Fatalf("%v in %s", err, s)
	}
	return vars["X"]
}

// readFish knows the two escapes that fish has between single quotes.
func readFish(t *testing.T, s string) string {
	s, header := strings.CutPrefix(s, "set -gx X '")
	s, footer := strings.CutSuffix(s, "'\n")
	if !header || !footer {
		t.Fatalf("not one quoted value: %q", s)
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\'' {
			t.Fatalf("the quotes end early: %q", s)
		}
		if s[i] == '\\' && i+1 < len(s) && (s[i+1] == '\\' || s[i+1] == '\'') {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func TestFormats(t *testing.T) {
	vars := []Var{{Name: "A", Value: "a$b"}, {Name: "GONE", Unset: true}, {Name: "B", Value: `it's 100%`}}
	want := map[string]string{
		"sh":      "export A='a$b'\nunset GONE\nexport B='it'\\''s 100%'\n",
		"fish":    "set -gx A 'a$b'\nset -e GONE\nset -gx B 'it\\'s 100%'\n",
		"dotenv":  "A='a$b'\nGONE=''\nB=\"it's 100%\"\n",
		"github":  "A=a$b\nGONE=\nB=it's 100%\n",
		"gitlab":  "variables:\n  A: \"a$$b\"\n  GONE: \"\"\n  B: \"it's 100%\"\n",
		"systemd": "[Service]\nEnvironment=\"A=a$b\"\nUnsetEnvironment=GONE\nEnvironment=\"B=it's 100%%\"\n",
		"docker":  "A=a$b\nGONE=\nB=it's 100%\n",
		"json":    "{\n  \"A\": \"a$b\",\n  \"GONE\": null,\n  \"B\": \"it's 100%\"\n}\n",
	}
	if len(want) != len(Formats()) {
		t.Errorf("formats %v", Formats())
	}
	for _, name := range Formats() {
		var b strings.Builder
		if err := Format(&b, name, vars); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(want[name], b.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestFormatErrors(t *testing.T) {
	for _, tt := range []struct {
		format string
		v      Var
		says   string
	}{
		{"cmd", Var{Name: "A"}, "sh, fish, dotenv"},
		{"sh", Var{}, "without a name"},
		{"sh", Var{Name: "1A"}, "no name"},
		{"sh", Var{Name: "A;id"}, "no name"},
		{"sh", Var{Name: "A", Value: "\x00"}, "zero byte"},
		{"docker", Var{Name: "A", Value: "a\nb"}, "more than one line"},
		{"json", Var{Name: "A", Value: "\xff"}, "UTF-8"},
		{"gitlab", Var{Name: "A", Value: "\xff"}, "UTF-8"},
	} {
		var b strings.Builder
		if err := Format(&b, tt.format, []Var{{Name: "FIRST"}, tt.v}); err == nil || !strings.Contains(err.Error(), tt.says) || b.Len() > 0 {
			t.Errorf("%s, %+v: %v, %d bytes written; want %q", tt.format, tt.v, err, b.Len(), tt.says)
		}
	}
}

// TestFormatsOfTheWholeEnvironment has sh and the JSON reader agree on
// everything that Environment returns.
func TestFormatsOfTheWholeEnvironment(t *testing.T) {
	vars := Environment(Paths("/state/it's here"), Proxy{URL: "http://127.0.0.1:3128"}, nobody)
	var script, object strings.Builder
	if err := Format(&script, "sh", vars); err != nil {
		t.Fatal(err)
	}
	if err := Format(&object, "json", vars); err != nil {
		t.Fatal(err)
	}
	var want map[string]*string
	if err := json.Unmarshal([]byte(object.String()), &want); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", script.String()+"env -0")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "ALL_PROXY=socks5://elsewhere"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for entry := range strings.SplitSeq(string(out), "\x00") {
		name, value, _ := strings.Cut(entry, "=")
		got[name] = value
	}
	for name, value := range want {
		have, set := got[name]
		if value == nil && set || value != nil && have != *value {
			t.Errorf("%s is %s in sh, %v in JSON", name, strconv.Quote(have), value)
		}
	}
}
