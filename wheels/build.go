package wheels

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"larder/registry/pypi"
)

// Builder builds wheels with pip, in the environment of whoever calls it: a source
// distribution runs what it wants while it is built, with the rights of that user.
type Builder struct {
	// Pythons are names or paths of interpreters, each with pip. Empty: python3.
	Pythons []string
	// Env is the environment of pip.
	Env []string
	// Timeout bounds one build. 0: half an hour.
	Timeout time.Duration
	// MaxMemory bounds the address space of each process of a build, in bytes; 0: as the
	// caller's.
	MaxMemory int64
	// MaxFile bounds each file that a build writes, in bytes; 0: as the caller's.
	MaxFile int64
	// Output gets what pip says.
	Output io.Writer
}

// Python is an interpreter.
type Python struct {
	// Command is its name or path.
	Command string
	// Tag is the tag of its implementation and version (PEP 425), such as cp311.
	Tag string
	// Pip is the version of its pip.
	Pip string
}

// Built is a wheel that was built.
type Built struct {
	// Path is in a folder that Build's caller removes.
	Path string
	With Python
}

const (
	defaultTimeout = 30 * time.Minute
	// askTimeout bounds a question to an interpreter.
	askTimeout = time.Minute
	// killWait is how long pip may take to end when it is told to.
	killWait = 10 * time.Second
)

// Ask finds out about the interpreters.
func (b *Builder) Ask(ctx context.Context) ([]Python, error) {
	names := b.Pythons
	if len(names) == 0 {
		names = []string{"python3"}
	}
	var all []Python
	for _, name := range names {
		p, err := b.ask(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", name, err)
		}
		all = append(all, p)
	}
	return all, nil
}

// about prints the tag and the version of pip.
const about = `import sys, pip
name = {"cpython": "cp", "pypy": "pp"}.get(sys.implementation.name, sys.implementation.name)
print("%s%d%d %s" % (name, sys.version_info[0], sys.version_info[1], pip.__version__))`

func (b *Builder) ask(ctx context.Context, name string) (Python, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, name, "-c", about)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = b.Env, &out, &said, killWait
	if err := cmd.Run(); err != nil {
		return Python{}, fmt.Errorf("%w: %s", err, lastLine(said.String()))
	}
	tag, pip, ok := strings.Cut(strings.TrimSpace(out.String()), " ")
	if !ok {
		return Python{}, fmt.Errorf("it answers %q", out.String())
	}
	return Python{Command: name, Tag: tag, Pip: pip}, nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// Build builds a wheel of the source distribution at path, whose content has been
// verified, in folder, which holds nothing else. published is when it was, for builds
// that heed SOURCE_DATE_EPOCH; zero if unknown. A process that outlives its time is
// ended with all its children.
func (b *Builder) Build(ctx context.Context, path, folder string, with Python, published time.Time) (*Built, error) {
	timeout := b.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, tmp := filepath.Join(folder, "out"), filepath.Join(folder, "tmp")
	for _, dir := range []string{out, tmp} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	argv := b.limited([]string{
		with.Command, "-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "--no-input", "--disable-pip-version-check",
		"--progress-bar", "off", "--wheel-dir", out, path,
	})
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = folder, b.Output, b.Output, killWait
	cmd.Env = append(b.Env[:len(b.Env):len(b.Env)], "TMPDIR="+tmp)
	if !published.IsZero() {
		cmd.Env = append(cmd.Env, "SOURCE_DATE_EPOCH="+strconv.FormatInt(published.Unix(), 10))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err := cmd.Run()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("pip took longer than %s", timeout)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("pip wheel: %w", err)
	}
	built, err := one(out)
	if err != nil {
		return nil, err
	}
	return &Built{Path: built, With: with}, nil
}

// limited puts the limits before a command line: a process sets its own, which a
// parent in Go cannot do for it.
func (b *Builder) limited(argv []string) []string {
	script := ""
	if b.MaxMemory > 0 {
		script += fmt.Sprintf("ulimit -v %d; ", b.MaxMemory/1024)
	}
	if b.MaxFile > 0 {
		script += fmt.Sprintf("ulimit -f %d; ", (b.MaxFile+511)/512)
	}
	if script == "" {
		return argv
	}
	return append([]string{"/bin/sh", "-c", script + `exec "$@"`, "sh"}, argv...)
}

// one returns the one wheel in a folder.
func one(folder string) (string, error) {
	found, err := filepath.Glob(filepath.Join(folder, "*"+wheelEnding))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("pip has made %d wheels", len(found))
	}
	return found[0], nil
}

// Suits reports whether a wheel is for an interpreter with this tag, as far as its
// Python tags say: cp311, py3, py38 and such, and for an abi3 one of an older cp3x.
func (p Python) Suits(f pypi.FileName) bool {
	for tag := range strings.SplitSeq(f.Python, ".") {
		switch {
		case tag == p.Tag:
			return true
		case strings.HasPrefix(tag, "py"):
			major, minor := version(tag[2:])
			ours, than := version(strings.TrimLeft(p.Tag, "abcdefghijklmnopqrstuvwxyz"))
			if major == ours && minor <= than {
				return true
			}
		case strings.HasPrefix(tag, "cp3") && strings.HasPrefix(p.Tag, "cp3") && strings.Contains(f.ABI, "abi3"):
			_, minor := version(tag[2:])
			if _, than := version(p.Tag[2:]); minor <= than {
				return true
			}
		}
	}
	return false
}

// version reads 3, 38 or 311 of a tag.
func version(digits string) (major, minor int) {
	if digits == "" {
		return 0, 0
	}
	major, _ = strconv.Atoi(digits[:1])
	minor, _ = strconv.Atoi(digits[1:])
	return major, minor
}
