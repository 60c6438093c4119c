package certs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// A format writes variables, after they were checked, to b.
type format struct {
	name  string
	write func(b *bytes.Buffer, vars []Var) error
}

func formats() []format {
	return []format{
		{"sh", each(sh)},
		{"fish", each(fish)},
		{"dotenv", each(dotenv)},
		{"github", each(github)},
		{"gitlab", gitlab},
		{"systemd", systemd},
		{"docker", each(docker)},
		{"json", writeJSON},
	}
}

// Formats returns what Format can write:
//
//   - sh, to be evaluated by any POSIX shell: eval "$(larder env)"
//   - fish, likewise: larder env --format fish | source
//   - dotenv, a file in the syntax that the dotenv libraries, docker compose
//     and POSIX shells agree on
//   - github, lines to append to the file that $GITHUB_ENV names
//   - gitlab, a block of YAML for .gitlab-ci.yml
//   - systemd, a drop-in for a service
//   - docker, a file for docker run --env-file, which knows no quotes, so that
//     no value may have more than one line
//   - json, an object; null stands for a variable that shall not exist
func Formats() []string {
	var names []string
	for _, f := range formats() {
		names = append(names, f.name)
	}
	return names
}

// Format writes the variables to w. It writes nothing if it returns an error:
// for a format it does not know, for what is no name of a variable, and for
// values that the format has no words for.
func Format(w io.Writer, format string, vars []Var) error {
	for _, f := range formats() {
		if f.name != format {
			continue
		}
		for _, v := range vars {
			if err := check(v); err != nil {
				return err
			}
		}
		var b bytes.Buffer
		if err := f.write(&b, vars); err != nil {
			return fmt.Errorf("write variables as %s: %w", format, err)
		}
		_, err := w.Write(b.Bytes())
		return err
	}
	return fmt.Errorf("write variables: unknown format %q, not one of %s", format, strings.Join(Formats(), ", "))
}

// check returns an error for what no environment can hold.
func check(v Var) error {
	for i, c := range []byte(v.Name) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return fmt.Errorf("%q is no name of a variable", v.Name)
		}
	}
	if v.Name == "" {
		return fmt.Errorf("a variable without a name")
	}
	if strings.ContainsRune(v.Value, 0) {
		return fmt.Errorf("the value of %s contains a zero byte", v.Name)
	}
	return nil
}

// each makes a writer of all variables from one of a single variable.
func each(line func(Var) (string, error)) func(*bytes.Buffer, []Var) error {
	return func(b *bytes.Buffer, vars []Var) error {
		for _, v := range vars {
			s, err := line(v)
			if err != nil {
				return err
			}
			b.WriteString(s)
			b.WriteByte('\n')
		}
		return nil
	}
}

func sh(v Var) (string, error) {
	if v.Unset {
		return "unset " + v.Name, nil
	}
	return "export " + v.Name + "='" + strings.ReplaceAll(v.Value, "'", `'\''`) + "'", nil
}

func fish(v Var) (string, error) {
	if v.Unset {
		return "set -e " + v.Name, nil
	}
	return "set -gx " + v.Name + " '" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(v.Value) + "'", nil
}

// dotenv quotes with ' where that is possible: all dialects then take every
// character as it is. Between " they differ in little but the four characters
// that are escaped here.
func dotenv(v Var) (string, error) {
	if !strings.Contains(v.Value, "'") {
		return v.Name + "='" + v.Value + "'", nil
	}
	return v.Name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(v.Value) + `"`, nil
}

// github writes what the runner's file commands read. A value of more than one
// line is enclosed between lines that do not occur in it.
func github(v Var) (string, error) {
	if !strings.ContainsAny(v.Value, "\r\n") {
		return v.Name + "=" + v.Value, nil
	}
	end := "LARDER_END"
	for strings.Contains(v.Value, end) {
		end += "_"
	}
	return v.Name + "<<" + end + "\n" + v.Value + "\n" + end, nil
}

// gitlab writes YAML. GitLab expands variables inside of values, which a second
// $ prevents.
func gitlab(b *bytes.Buffer, vars []Var) error {
	b.WriteString("variables:\n")
	for _, v := range vars {
		value, err := jsonString(v.Name, strings.ReplaceAll(v.Value, "$", "$$"))
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "  %s: %s\n", v.Name, value)
	}
	return nil
}

// systemd writes a drop-in as systemd.exec(5) and systemd.syntax(7) have it:
// quotes, C escapes, and specifiers that begin with %.
func systemd(b *bytes.Buffer, vars []Var) error {
	b.WriteString("[Service]\n")
	for _, v := range vars {
		if v.Unset {
			fmt.Fprintf(b, "UnsetEnvironment=%s\n", v.Name)
			continue
		}
		value := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(v.Value)
		fmt.Fprintf(b, "Environment=\"%s=%s\"\n", v.Name, value)
	}
	return nil
}

func docker(v Var) (string, error) {
	if strings.ContainsAny(v.Value, "\r\n") {
		return "", fmt.Errorf("the value of %s has more than one line", v.Name)
	}
	return v.Name + "=" + v.Value, nil
}

func writeJSON(b *bytes.Buffer, vars []Var) error {
	b.WriteString("{")
	for i, v := range vars {
		value, err := jsonString(v.Name, v.Value)
		if err != nil {
			return err
		}
		if v.Unset {
			value = "null"
		}
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(b, "\n  \"%s\": %s", v.Name, value)
	}
	b.WriteString("\n}\n")
	return nil
}

// jsonString returns the value of the variable as a string of JSON, which is
// one of YAML too. Neither can hold anything but Unicode.
func jsonString(name, value string) (string, error) {
	if !utf8.ValidString(value) {
		return "", fmt.Errorf("the value of %s is not UTF-8", name)
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(value)
	return strings.TrimSuffix(b.String(), "\n"), err
}
