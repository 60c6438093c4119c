package policy

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// update is the flag -update; a test binary has no main to own it.
var update = flag.Bool("update", false, "rewrite the expected texts in testdata")

func TestInvalidFilesAreExplained(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid-*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("Glob = %v, %v", files, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(strings.TrimSuffix(strings.TrimPrefix(name, "invalid-"), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, err := Parse(name, data)
			if err == nil {
				t.Fatalf("Parse succeeded: %+v", p.Settings())
			}
			problems, ok := errors.AsType[*Errors](err)
			if !ok {
				t.Fatalf("Parse = %T, want *Errors", err)
			}
			for _, problem := range problems.Problems {
				if problem.File != name || problem.Message == "" {
					t.Errorf("incomplete problem %+v", problem)
				}
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("message differs (-want +got):\n%s", diff)
			}
		})
	}
}
