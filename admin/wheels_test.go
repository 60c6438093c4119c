package admin

import (
	"errors"
	"io"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// rack is a WheelAPI over a slice.
type rack struct {
	all   []Wheel
	fails error
}

func (r *rack) List() []Wheel { return r.all }

func (r *rack) Add(file string, source *WheelSource, content io.Reader) (Wheel, error) {
	b, err := io.ReadAll(content)
	if err = errors.Join(err, r.fails); err != nil {
		return Wheel{}, err
	}
	w := Wheel{File: file, Size: int64(len(b)), Source: source, Added: time.Unix(1e9, 0).UTC()}
	r.all = append(r.all, w)
	return w, nil
}

func (r *rack) Remove(match string) (removed []Wheel, err error) {
	var left []Wheel
	for _, w := range r.all {
		if ok, _ := path.Match(match, w.File); ok {
			removed = append(removed, w)
		} else {
			left = append(left, w)
		}
	}
	r.all = left
	return removed, r.fails
}

func (r *rack) Wanted(int) []WantedSource { return []WantedSource{{Project: "foo", Count: 3}} }

func TestWheels(t *testing.T) {
	t.Parallel()
	const token = "TOKENTOKENTOKENTOKEN"
	r := &rack{}
	s := httptest.NewServer(New(Options{Wheels: r, Token: token}))
	defer s.Close()
	c := NewClient(s.Listener.Addr().String(), token, nil)
	defer c.Close()
	if all, err := c.Wheels(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("Wheels = %v, %v", all, err)
	}
	source := &WheelSource{File: "foo-1.0.tar.gz", SHA256: "aa&b", Python: "cp311"}
	added, err := c.AddWheel(t.Context(), "foo-1.0-py3-none-any.whl", source, strings.NewReader(strings.Repeat("x", 1<<20)))
	want := Wheel{File: "foo-1.0-py3-none-any.whl", Size: 1 << 20, Source: source, Added: time.Unix(1e9, 0).UTC()}
	if diff := cmp.Diff(want, added); diff != "" || err != nil {
		t.Errorf("AddWheel: %v (-want +got):\n%s", err, diff)
	}
	if all, err := c.Wheels(t.Context()); err != nil || !cmp.Equal(all, []Wheel{want}) {
		t.Errorf("Wheels = %v, %v", all, err)
	}
	if wanted, err := c.Wanted(t.Context()); err != nil || len(wanted) != 1 || wanted[0].Count != 3 {
		t.Errorf("Wanted = %v, %v", wanted, err)
	}
	if removed, err := c.RemoveWheels(t.Context(), "foo-*"); err != nil || len(removed) != 1 || len(r.all) != 0 {
		t.Errorf("RemoveWheels = %v, %v", removed, err)
	}
	r.fails = errors.New("no room")
	if _, err := c.AddWheel(t.Context(), "foo-1.0-py3-none-any.whl", nil, strings.NewReader("x")); err == nil || err.Error() != "no room" {
		t.Errorf("AddWheel = %v", err)
	}
	if _, err := c.RemoveWheels(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "match is missing") {
		t.Errorf("RemoveWheels of nothing = %v", err)
	}
	stranger := NewClient(s.Listener.Addr().String(), "", nil)
	defer stranger.Close()
	if _, err := stranger.Wheels(t.Context()); err == nil || !strings.Contains(err.Error(), "needs the token") {
		t.Errorf("without the token: %v", err)
	}
}
