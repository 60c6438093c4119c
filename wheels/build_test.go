package wheels

import (
	"testing"

	"larder/registry/pypi"
)

func TestSuits(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		tag, file string
		want      bool
	}{
		{"cp311", "a-1-cp311-cp311-linux_x86_64.whl", true},
		{"cp311", "a-1-cp310-cp310-linux_x86_64.whl", false},
		{"cp311", "a-1-py3-none-any.whl", true},
		{"cp311", "a-1-py2.py3-none-any.whl", true},
		{"cp311", "a-1-py2-none-any.whl", false},
		{"cp311", "a-1-py38-none-any.whl", true},
		{"cp39", "a-1-py310-none-any.whl", false},
		{"cp311", "a-1-cp38-abi3-manylinux2014_x86_64.whl", true},
		{"cp37", "a-1-cp38-abi3-manylinux2014_x86_64.whl", false},
		{"pp310", "a-1-py3-none-any.whl", true},
		{"pp310", "a-1-cp310-cp310-any.whl", false},
	} {
		all := pypi.Readings(row.file)
		if len(all) != 1 {
			t.Fatalf("%s is no wheel", row.file)
		}
		if got := (Python{Tag: row.tag}).Suits(all[0]); got != row.want {
			t.Errorf("%s suits %s: %t, want %t", row.file, row.tag, got, row.want)
		}
	}
}

func TestLimitsComeBeforeTheCommand(t *testing.T) {
	t.Parallel()
	b := &Builder{MaxMemory: 1 << 30, MaxFile: 1 << 20}
	got := b.limited([]string{"python3", "-m", "pip"})
	if len(got) != 7 || got[2] != `ulimit -v 1048576; ulimit -f 2048; exec "$@"` {
		t.Errorf("%q", got)
	}
	if got := (&Builder{}).limited([]string{"x"}); len(got) != 1 {
		t.Errorf("without limits: %q", got)
	}
}
