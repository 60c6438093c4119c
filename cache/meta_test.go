package cache

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"larder/cache/integrity"
)

func sampleRecords() []*record {
	return []*record{
		{
			kind: kindObject, status: 200, url: "https://example.org/a?b", requested: time.Unix(0, 12345), received: time.Unix(1e9, 1),
			etag: `"x"`, lastModified: date(0), header: http.Header{"A": {"1", "2"}, "B": {""}, "C": {}},
			selectors: []selector{{"accept-encoding", "gzip"}, {"x-y", ""}}, partition: "p",
			verified: []integrity.Claim{sampleClaim(integrity.SHA512, integrity.FromIndex), sampleClaim(integrity.MD5, integrity.FromHeader)},
		},
		{kind: kindObject, header: http.Header{}, requested: time.Unix(0, -5), received: time.Unix(0, 0)},
		{kind: kindVariants, nonce: [8]byte{1, 2, 3}, sets: [][]string{{"accept", "x-y"}, {"accept"}, {}}},
		{kind: kindVariants},
	}
}

func sampleClaim(a integrity.Algorithm, s integrity.Source) integrity.Claim {
	d, _ := integrity.NewDigest(a, make([]byte, a.Size()))
	return integrity.Claim{Digest: d, Source: s}
}

func TestRecordsReadBack(t *testing.T) {
	for _, want := range sampleRecords() {
		got, err := decodeRecord(want.encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(record{}, selector{}, integrity.Digest{}), cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestDamagedRecordsAreErrors(t *testing.T) {
	for _, m := range sampleRecords() {
		data := m.encode()
		for n := range data {
			if _, err := decodeRecord(data[:n]); err == nil {
				t.Errorf("%d of %d bytes are taken for a record", n, len(data))
			}
		}
		if _, err := decodeRecord(append(data, 0)); err == nil {
			t.Error("a byte too many")
		}
		data[0]++
		if _, err := decodeRecord(data); err == nil {
			t.Error("another version")
		}
	}
}

func TestFactsOfALaterLarderAreLeftOut(t *testing.T) {
	m := &record{kind: kindObject, header: http.Header{}, requested: time.Unix(0, 0), received: time.Unix(0, 0)}
	data := m.encode()
	data = append(data[:len(data)-1], 2, 99, 3, 'x', 'y', 'z', factVerified, 0)
	got, err := decodeRecord(data)
	if err != nil || len(got.verified) > 0 {
		t.Errorf("decodeRecord = %+v, %v", got, err)
	}
}

func TestRecordsOfVersion2ReadBack(t *testing.T) {
	for _, partition := range []string{"", "p"} {
		m := &record{kind: kindObject, url: "u", header: http.Header{}, requested: time.Unix(0, 0), received: time.Unix(0, 0), partition: partition}
		data := m.encode()
		data = data[:len(data)-1] // no facts
		if partition == "" {
			data = data[:len(data)-1]
		}
		data[0] = metaVersion2
		got, err := decodeRecord(data)
		if err != nil || got.partition != partition || got.url != "u" {
			t.Errorf("decodeRecord = %+v, %v", got, err)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for _, m := range sampleRecords() {
		f.Add(m.encode())
	}
	f.Add([]byte{metaVersion, kindVariants, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeRecord(data)
		if err != nil {
			return
		}
		again, err := decodeRecord(m.encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, again, cmp.AllowUnexported(record{}, selector{}, integrity.Digest{}), cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
		if m.kind == kindObject {
			judge(m, &Rule{Mode: HTTP}, nil, at)
			currentAge(m, at)
		}
	})
}
