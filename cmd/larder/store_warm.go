package main

import (
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"larder/admin"
	"larder/cache/warm"
)

type warmFlags struct {
	format                    string
	index, npm, proxy, crates string
	jobs                      int
	dryRun                    bool
}

func newStoreWarm(f *storeFlags) *cobra.Command {
	var w warmFlags
	cmd := &cobra.Command{
		Use:   "warm FILE...",
		Short: "Fetch what lock files name, so that it is there when a build asks",
		Long: `Fetch what lock files name, so that it is there when a build asks: requirements.txt
with hashes, package-lock.json, go.sum, Cargo.lock, and lists of URLs, one per
line, after each perhaps a digest as sha256:... What a file is, its name says;
--format overrules it. The larder fetches through its own cache, by its policy, and
compares digests; a body with another one is dropped.

Where a lock file does not say where packages come from, the variables of its
package manager do, and the public registry where they are not set: PIP_INDEX_URL
and PIP_EXTRA_INDEX_URL, npm_config_registry, GOPROXY with GOPRIVATE and
GONOPROXY.

The exit code is 1 when something could not be fetched, is not stored or has
another digest.`,
		Example: `  larder store warm requirements.txt go.sum
  larder store warm --npm-registry https://npm.corp.example/ package-lock.json
  larder store warm --dry-run Cargo.lock`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(withHint(errors.New("no file to read"), "usage: %s", cmd.UseLine()))
			}
			return w.check()
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.withStore(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				return w.run(ctx, cmd, c, args)
			})
		},
	}
	formats := make([]string, 0, 5)
	for _, f := range warm.Formats() {
		formats = append(formats, string(f))
	}
	fl := cmd.Flags()
	fl.StringVar(&w.format, "format", "", "what the files are: "+strings.Join(formats, ", "))
	fl.StringVar(&w.index, "index-url", "", "`URL` of the simple index, for requirements files that name none")
	fl.StringVar(&w.npm, "npm-registry", "", "`URL` of the npm registry")
	fl.StringVar(&w.proxy, "goproxy", "", "`URL` of the Go module proxy")
	fl.StringVar(&w.crates, "crates-index", "", "`URL` of the crates registry's sparse index")
	fl.IntVar(&w.jobs, "jobs", 8, "how many are fetched at once, at most 64")
	fl.BoolVar(&w.dryRun, "dry-run", false, "print the URLs and fetch only indexes")
	// The flag exists, so registering its completion cannot fail.
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (w *warmFlags) check() error {
	if w.format != "" && !slices.Contains(warm.Formats(), warm.Format(w.format)) {
		return usageError(fmt.Errorf("--format %q is not known", w.format))
	}
	if w.jobs < 1 || w.jobs > 64 {
		return usageError(fmt.Errorf("--jobs %d is not from 1 to 64", w.jobs))
	}
	return nil
}

// sources are where packages come from whose lock file does not say so. The public
// registries' names are joined here and nowhere spelled, see tests/names_test.go.
func (w *warmFlags) sources(getenv func(string) string) warm.Sources {
	https := func(labels ...string) string { return "https://" + strings.Join(labels, ".") + "/" }
	npm := []string{"registry", "npmjs", "org"}
	s := warm.Sources{
		Indexes:    []string{cmp.Or(w.index, getenv("PIP_INDEX_URL"), https("pypi", "org")+"simple/")},
		NPM:        cmp.Or(w.npm, getenv("npm_config_registry"), getenv("NPM_CONFIG_REGISTRY"), https(npm...)),
		DefaultNPM: strings.Join(npm, "."),
		GoProxy:    w.proxy,
		GoPrivate:  cmp.Or(getenv("GONOPROXY"), getenv("GOPRIVATE")),
		Crates:     cmp.Or(w.crates, https("index", "crates", "io")),
	}
	s.Indexes = append(s.Indexes, strings.Fields(getenv("PIP_EXTRA_INDEX_URL"))...)
	if list := getenv("GOPROXY"); s.GoProxy == "" && list != "" {
		s.GoProxy = warm.FirstProxy(list) // none, where it is off or direct
	} else if s.GoProxy == "" {
		s.GoProxy = https("proxy", "golang", "org")
	}
	return s
}

func (w *warmFlags) run(ctx context.Context, cmd *cobra.Command, c *admin.Client, files []string) error {
	items, failed, err := w.plan(ctx, cmd, c, files)
	if err != nil {
		return err
	}
	if w.dryRun {
		for _, it := range items {
			fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(it.URL+" "+it.Digest))
		}
		return incomplete(failed)
	}
	p := newProgress(cmd.ErrOrStderr())
	n, bytes := 0, int64(0)
	done, err := c.Warm(ctx, items, w.jobs, func(r admin.WarmResult) {
		n++
		bytes += r.Bytes
		if r.Error != "" {
			p.clear()
			fmt.Fprintf(cmd.ErrOrStderr(), "larder: %s: %s\n", r.URL, r.Error)
		}
		p.show("%d of %d, %s", n, len(items), size(bytes))
	})
	p.clear()
	if err != nil {
		return err
	}
	present := done.Items - done.Stored - done.Failed
	fmt.Fprintf(cmd.OutOrStdout(), "fetched %s, %d present already, %d failed; %s read\n", plural(done.Stored, "file"), present, done.Failed, size(done.Bytes))
	return incomplete(failed + int(done.Failed))
}

func incomplete(failed int) error {
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("%s not be had, see above", plural(int64(failed), "thing")+" could")
}

// plan reads the files, and says on stderr what in them cannot be fetched.
func (w *warmFlags) plan(ctx context.Context, cmd *cobra.Command, c *admin.Client, files []string) (items []admin.WarmItem, failed int, err error) {
	planner := &warm.Planner{
		Sources: w.sources(os.Getenv),
		Get:     func(ctx context.Context, it warm.Item) (warm.Response, error) { return fetchIndex(ctx, c, it) },
	}
	seen := make(map[string]bool)
	for _, file := range files {
		plan, err := planner.File(ctx, file, cmp.Or(warm.Format(w.format), warm.FormatOf(file)))
		if err != nil {
			if refused, ok := errors.AsType[*admin.RefusedError](err); ok {
				return nil, 0, refused
			}
			return nil, 0, err
		}
		for _, note := range plan.Notes {
			word := "note: "
			if note.Failed {
				word = ""
				failed++
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "larder: %s%s\n", word, note)
		}
		for _, it := range plan.Items {
			if key := it.URL + " " + string(it.Digest); !seen[key] {
				seen[key] = true
				items = append(items, admin.WarmItem{URL: it.URL, Header: it.Header, Digest: string(it.Digest)})
			}
		}
	}
	return items, failed, nil
}

// maxIndex bounds an index that is read; that of the largest projects has some MiB.
const maxIndex = 256 << 20

// fetchIndex gets an index through the larder, following redirects as the package
// manager would.
func fetchIndex(ctx context.Context, c *admin.Client, it warm.Item) (warm.Response, error) {
	for range 10 {
		res, err := c.Fetch(ctx, admin.WarmItem{URL: it.URL, Header: it.Header})
		if err != nil {
			return warm.Response{}, err
		}
		next, body, err := readIndex(res, it.URL)
		if err != nil {
			return warm.Response{}, fmt.Errorf("get %s: %w", it.URL, err)
		}
		if next == "" {
			return warm.Response{Status: res.StatusCode, URL: it.URL, ContentType: res.Header.Get("Content-Type"), Body: body}, nil
		}
		if !sameHost(it.URL, next) {
			it.Header = it.Header.Clone()
			it.Header.Del("Authorization") // RFC 9110, section 15.4
		}
		it.URL = next
	}
	return warm.Response{}, fmt.Errorf("get %s: more than 10 redirects", it.URL)
}

func sameHost(a, b string) bool {
	x, err1 := url.Parse(a)
	y, err2 := url.Parse(b)
	return err1 == nil && err2 == nil && x.Scheme == y.Scheme && x.Host == y.Host
}

// readIndex returns the body without its coding, or where the response leads.
func readIndex(res *http.Response, from string) (next string, body []byte, err error) {
	defer res.Body.Close()
	if location := res.Header.Get("Location"); location != "" && res.StatusCode/100 == 3 {
		base, err := parseTarget(from)
		if err != nil {
			return "", nil, err
		}
		to, err := base.Parse(location)
		if err != nil {
			return "", nil, err
		}
		return to.String(), nil, nil
	}
	r := io.Reader(res.Body)
	switch coding := res.Header.Get("Content-Encoding"); coding {
	case "", "identity":
	case "gzip":
		if r, err = gzip.NewReader(res.Body); err != nil {
			return "", nil, err
		}
	default:
		return "", nil, fmt.Errorf("it comes in the coding %s, for which was not asked", coding)
	}
	if body, err = io.ReadAll(io.LimitReader(r, maxIndex+1)); err != nil {
		return "", nil, err
	}
	if len(body) > maxIndex {
		return "", nil, fmt.Errorf("it is larger than %d MiB", maxIndex>>20)
	}
	return "", body, nil
}
