package cache

import (
	"net/http"
	"slices"
	"testing"
)

func FuzzSelectorsSurviveTheWayToAnotherStore(f *testing.F) {
	f.Add("accept-encoding", "gzip, deflate;q=0", "br", true)
	f.Add("accept", "text/html , */*", "", false)
	f.Add("accept", "*/*", "", false)
	f.Add("x-y", `a,"b , c"`, "d", true)
	f.Add("x-y", "=", "", false)
	f.Fuzz(func(t *testing.T, name, one, two string, both bool) {
		h := http.Header{}
		if one != "absent" {
			h[http.CanonicalHeaderKey(name)] = []string{one}
			if both {
				h[http.CanonicalHeaderKey(name)] = []string{one, two}
			}
		}
		set := fieldSet([]string{name})
		if len(set) == 0 {
			return
		}
		want := selectorsOf(set, h)
		gotSet, header := requestOf(selectMap(want))
		if got := selectorsOf(gotSet, header); !slices.Equal(got, want) {
			t.Errorf("%q %v: selectors %q became %q", name, h, want, got)
		}
	})
}

func TestRecordsOfTheFirstVersionAreRead(t *testing.T) {
	m := sampleRecords()[1]
	data := m.encode()
	data = data[:len(data)-3] // no selectors, partition and facts
	data[0] = metaVersion1
	if got, err := decodeRecord(data); err != nil || got.kind != kindObject {
		t.Errorf("read as %+v, %v", got, err)
	}
}
