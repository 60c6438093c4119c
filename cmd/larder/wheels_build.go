package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"larder/admin"
	"larder/policy"
	"larder/registry/pypi"
	"larder/wheels"
)

type buildFlags struct {
	wanted           int
	pythons          []string
	index, proxy     string
	timeout          time.Duration
	memory, fileSize string
	again, quiet     bool
}

func newWheelsBuild(f *storeFlags) *cobra.Command {
	var b buildFlags
	cmd := &cobra.Command{
		Use:   "build [NAME[==VERSION]...] [--wanted N]",
		Short: "Build wheels of source distributions with pip, and keep them",
		Long: `Build wheels of source distributions with pip, and keep them: of the versions named, of
the newest where none is, or of the N source distributions that are fetched most and
of which the index has no usable wheel.

The source distribution and what its build needs come through the larder. Its digest is
that of the index. It is built by "pip wheel --no-deps" of each --python, in your own
environment with your compilers and headers, in a folder of its own.

A source distribution runs what it wants while it is built, with your rights: run this
as a user, or in a container, that may do nothing else.`,
		Example: `  larder wheels build docopt==0.6.2
  larder wheels build --wanted 10 --python python3.11 --python python3.12`,
		Args: func(_ *cobra.Command, args []string) error { return b.check(args) },
		RunE: func(cmd *cobra.Command, args []string) error {
			env, end, err := f.pipEnvironment(cmd.Context(), b.proxy)
			if err != nil {
				return err
			}
			defer end()
			return f.withStore(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				err := b.run(ctx, cmd, c, env, args)
				f.noteOverlay(cmd)
				return err
			})
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&b.wanted, "wanted", 0, "build this `many` of those that 'larder wheels wanted' lists without usable wheels")
	fl.StringArrayVar(&b.pythons, "python", nil, "`interpreter` with pip to build for; may be repeated (default python3)")
	fl.StringVar(&b.index, "index", "", "base `URL` of the index (default: $PIP_INDEX_URL, else PyPI)")
	fl.StringVar(&b.proxy, "proxy", "", "`URL` of the larder's proxy, where --admin names another machine's")
	fl.DurationVar(&b.timeout, "timeout", 30*time.Minute, "how long one build may take")
	fl.StringVar(&b.memory, "max-memory", "0", "`size` of the memory that each process of a build may map; 0 for no limit")
	fl.StringVar(&b.fileSize, "max-file", "2GiB", "`size` of each file that a build may write; 0 for no limit")
	fl.BoolVar(&b.again, "again", false, "build also what is there already")
	fl.BoolVarP(&b.quiet, "quiet", "q", false, "show what pip says only where it fails")
	return cmd
}

func (b *buildFlags) check(args []string) error {
	if len(args) == 0 && b.wanted <= 0 {
		return usageError(withHint(errors.New("nothing to build"), "name packages as docopt==0.6.2, or give --wanted 10"))
	}
	for _, arg := range args {
		name, version, pinned := strings.Cut(arg, "==")
		_, err := pypi.ParseVersion(version)
		if !pypi.ValidName(name) || pinned && err != nil {
			return usageError(withHint(fmt.Errorf("%q is neither NAME nor NAME==VERSION", arg), "write it as docopt==0.6.2"))
		}
	}
	for flag, text := range map[string]string{"--max-memory": b.memory, "--max-file": b.fileSize} {
		if _, err := policy.ParseSize(text); err != nil {
			return usageError(withHint(fmt.Errorf("%s: %w", flag, err), "write it as 4GiB, or 0 for no limit"))
		}
	}
	return nil
}

func (b *buildFlags) run(ctx context.Context, cmd *cobra.Command, c *admin.Client, env, args []string) error {
	memory, _ := policy.ParseSize(b.memory) // checked
	fileSize, _ := policy.ParseSize(b.fileSize)
	builder := &wheels.Builder{Pythons: b.pythons, Env: env, Timeout: b.timeout, MaxMemory: memory, MaxFile: fileSize, Output: cmd.ErrOrStderr()}
	pythons, err := builder.Ask(ctx)
	if err != nil {
		return withHint(err, "name interpreters that have pip with --python")
	}
	names, err := b.names(ctx, c, args)
	if err != nil {
		return err
	}
	failed := 0
	for _, name := range names {
		err := b.package1(ctx, cmd, c, builder, pythons, name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failed++
			fmt.Fprintf(cmd.ErrOrStderr(), "larder: %s: %s\n", name, err)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%s not be built, see above", plural(int64(failed), "package")+" could")
	}
	return nil
}

// names are those of the command line and those that are wanted most.
func (b *buildFlags) names(ctx context.Context, c *admin.Client, args []string) ([]string, error) {
	names := args
	if b.wanted <= 0 {
		return names, nil
	}
	all, err := (&wantedFlags{index: b.index, pythons: b.pythons}).list(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, w := range all {
		if len(names)-len(args) >= b.wanted {
			break
		}
		if w.Wheels == "none" || w.Wheels == "other" || b.again && w.Wheels == "own" {
			names = append(names, w.Project+"=="+w.Version)
		}
	}
	return names, nil
}

// package1 builds one package for all interpreters.
func (b *buildFlags) package1(ctx context.Context, cmd *cobra.Command, c *admin.Client, builder *wheels.Builder, pythons []wheels.Python, name string) error {
	project, version, _ := strings.Cut(name, "==")
	s, err := findSdist(ctx, c, pypiIndexes(b.index), project, version)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "larder-wheels-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	path, err := s.download(ctx, c, folder)
	if err != nil {
		return err
	}
	own, err := c.Wheels(ctx)
	if err != nil {
		return err
	}
	for i, python := range pythons {
		if !b.again && has(own, s, python) {
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s: there is a wheel for %s\n", s.project, s.version, python.Tag)
			continue
		}
		work := filepath.Join(folder, fmt.Sprint(i))
		w, err := b.buildOne(ctx, cmd, c, builder, python, s, path, work)
		if err != nil {
			return fmt.Errorf("with %s: %w", python.Command, err)
		}
		own = append(own, w)
	}
	return nil
}

func (b *buildFlags) buildOne(ctx context.Context, cmd *cobra.Command, c *admin.Client, builder *wheels.Builder, python wheels.Python, s *sdist, path, work string) (admin.Wheel, error) {
	var said strings.Builder
	with := *builder
	if b.quiet {
		with.Output = &said
	}
	built, err := with.Build(ctx, path, work, python, s.uploaded())
	if err != nil {
		fmt.Fprint(cmd.ErrOrStderr(), said.String())
		return admin.Wheel{}, err
	}
	w, err := addWheel(ctx, c, built.Path, &admin.WheelSource{
		File: s.file.Name, SHA256: s.file.Hashes["sha256"], URL: s.url, Python: python.Tag, Pip: python.Pip,
	})
	if err != nil {
		return w, err
	}
	if w.Project != s.project {
		return w, fmt.Errorf("the wheel is of the project %s", w.Project)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "built %s (%s) with %s\n", w.File, size(w.Size), python.Tag)
	return w, nil
}

// has reports whether there is a wheel of the source distribution for an interpreter.
func has(own []admin.Wheel, s *sdist, python wheels.Python) bool {
	for _, w := range own {
		name, err := wheels.ParseName(w.File)
		if err == nil && w.Source != nil && w.Source.SHA256 == s.file.Hashes["sha256"] && python.Suits(name) && suitsPlatform(name.Platform) {
			return true
		}
	}
	return false
}

// download gets the file through the larder, and holds it against its digest.
func (s *sdist) download(ctx context.Context, c *admin.Client, folder string) (string, error) {
	target := s.url
	if i := strings.IndexByte(target, '#'); i >= 0 {
		target = target[:i]
	}
	res, err := c.Fetch(ctx, admin.WarmItem{URL: target, Header: http.Header{"Accept-Encoding": {"identity"}}})
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10)) // what there is will do
		return "", fmt.Errorf("get %s: status %d: %s", target, res.StatusCode, strings.TrimSpace(string(text)))
	}
	path := filepath.Join(folder, filepath.Base(s.file.Name))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	digest := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, digest), res.Body)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("get %s: %w", target, err)
	}
	if got := hex.EncodeToString(digest.Sum(nil)); got != s.file.Hashes["sha256"] {
		return "", fmt.Errorf("get %s: its SHA-256 is %s, the index says %s", target, got, s.file.Hashes["sha256"])
	}
	return path, nil
}
