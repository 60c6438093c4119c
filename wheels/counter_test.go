package wheels

import (
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func note(t *testing.T, c *Counter, raw string) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	c.Note(u, 10)
}

func TestCounterGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "state", "wanted.json")
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	c := OpenCounter(file, logger)
	for range 3 {
		note(t, c, "https://files.test/packages/a/Foo_Bar-1.0.tar.gz?token=x")
	}
	note(t, c, "https://files.test/packages/b/six-1.0.zip")
	for _, other := range []string{"six-1.0-py3-none-any.whl", "foo-1.0.tar.gz.metadata", "x.tar.gz", ""} {
		note(t, c, "https://files.test/packages/c/"+other)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = OpenCounter(file, logger)
	note(t, c, "https://files.test/packages/b/six-1.0.zip")
	want := []Counted{
		{Project: "foo-bar", Version: "1.0", File: "Foo_Bar-1.0.tar.gz", URL: "https://files.test/packages/a/Foo_Bar-1.0.tar.gz", Count: 3, Bytes: 30},
		{Project: "six", Version: "1.0", File: "six-1.0.zip", URL: "https://files.test/packages/b/six-1.0.zip", Count: 2, Bytes: 20},
	}
	if diff := cmp.Diff(want, c.Top(0), cmpopts.IgnoreFields(Counted{}, "Last")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := c.Top(1); len(got) != 1 || got[0].Count != 3 {
		t.Errorf("Top(1) = %v", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = OpenCounter(file, logger)
	defer c.Close()
	if n := len(c.Top(0)); n != 0 {
		t.Errorf("of a file that cannot be read there are %d", n)
	}
}

func TestCounterIsBoundedAndLosesNothingThatIsFetchedOften(t *testing.T) {
	t.Parallel()
	c := OpenCounter(filepath.Join(t.TempDir(), "wanted.json"), slog.New(slog.NewTextHandler(t.Output(), nil)))
	defer c.Close()
	for i := range 2 * maxCounted {
		if i%10 == 0 {
			note(t, c, "https://files.test/often-1.0.tar.gz")
		}
		note(t, c, fmt.Sprintf("https://files.test/p%d-1.0.tar.gz", i))
	}
	top := c.Top(0)
	if len(top) != maxCounted || top[0].Project != "often" {
		t.Errorf("%d are counted, most of all %v", len(top), top[0])
	}
}
