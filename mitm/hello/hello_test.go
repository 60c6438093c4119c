package hello

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/cryptobyte"
)

var update = flag.Bool("update", false, "rewrite testdata/guesses.txt")

// fixture is a file of `go run ./tests/hellos`.
type fixture struct {
	Client    string `json:"client"`
	Version   string `json:"version"`
	UserAgent string `json:"connect_user_agent"`
	Ending    string `json:"ending"`
	Hello     []byte `json:"hello"`
}

// fixtures reads what real clients have sent.
func fixtures(t testing.TB) []fixture {
	t.Helper()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	all := make([]fixture, len(files))
	for i, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &all[i]); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return all
}

// body takes records and handshake header off a first flight.
func body(t testing.TB, flight []byte) []byte {
	t.Helper()
	var message []byte
	for len(flight) >= 5 {
		n := int(binary.BigEndian.Uint16(flight[3:]))
		message = append(message, flight[5:5+n]...)
		flight = flight[5+n:]
	}
	return message[4:]
}

// TestGuessesOfRealClients is what the table in docs/doctor.md rests on.
func TestGuessesOfRealClients(t *testing.T) {
	var b strings.Builder
	for _, f := range fixtures(t) {
		h, ok := Parse(body(t, f.Hello))
		if !ok {
			t.Errorf("%s: its hello is not understood", f.Client)
			continue
		}
		with, without := Of(&h, f.UserAgent), Of(&h, "")
		fmt.Fprintf(&b, "%-20s %-10s %-10s %s\n%21sends: %s; quiet: %v\n%21s%s: %s\n", f.Client, with.Tool, without.Tool, h.JA4(), "", f.Ending, without.Quiet, "", with.Title, with.Basis)
		// A client that goes without an alert and is not known to would need to do so twice.
		if !strings.Contains(f.Ending, "alert") && !without.Quiet {
			t.Errorf("%s ends with %q, and is not known to be quiet", f.Client, f.Ending)
		}
	}
	const golden = "testdata/guesses.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("guesses differ (-update rewrites them):\n%s", d)
	}
}

func TestEveryToolHasATitle(t *testing.T) {
	for product, tool := range byProduct() {
		if titles()[tool] == "" {
			t.Errorf("%s is %q, which has no title", product, tool)
		}
		if product != strings.ToLower(product) {
			t.Errorf("%s is never found", product)
		}
	}
	for _, f := range fixtures(t) {
		h, _ := Parse(body(t, f.Hello))
		if g := Of(&h, ""); g.Title == "" || g.Basis == "" {
			t.Errorf("%s: %+v", f.Client, g)
		}
	}
}

// build writes a hello of given parts.
func build(version uint16, suites, extensions []uint16, data map[uint16][]byte) []byte {
	var b cryptobyte.Builder
	b.AddUint16(version)
	b.AddBytes(make([]byte, 32))
	b.AddUint8LengthPrefixed(func(*cryptobyte.Builder) {})
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { addAll(b, suites) })
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint8(0) })
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, e := range extensions {
			b.AddUint16(e)
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(data[e]) })
		}
	})
	return b.BytesOrPanic()
}

func addAll(b *cryptobyte.Builder, numbers []uint16) {
	for _, n := range numbers {
		b.AddUint16(n)
	}
}

// list writes numbers behind their length in two bytes.
func list(numbers ...uint16) []byte {
	var b cryptobyte.Builder
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { addAll(b, numbers) })
	return b.BytesOrPanic()
}

// TestJA4 rebuilds a hello from a published raw fingerprint of Chrome.
func TestJA4(t *testing.T) {
	suites := []uint16{0x0a0a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x9c, 0x9d, 0x2f, 0x35}
	extensions := []uint16{0x1a1a, 0x2d, 0x33, 0x10, 0xfe0d, 0x17, 0x44cd, 0, 0xb, 0xa, 0x2b, 0xff01, 0x23, 0x12, 5, 0xd, 0x1b, 0x2a2a}
	data := map[uint16][]byte{
		0x10: []byte("\x00\x0c\x02h2\x08http/1.1"), 0xb: {1, 0}, 0xa: list(0x3a3a, 0x1d), 0x2b: {6, 0x4a, 0x4a, 3, 4, 3, 3},
		0xd: list(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601),
	}
	h, ok := Parse(build(0x0303, suites, extensions, data))
	if want := "t13d1516h2_8daaf6152771_d8a2da3f94cd"; !ok || h.JA4() != want || !h.GREASE {
		t.Errorf("got %v %s %v, want %s", ok, h.JA4(), h.GREASE, want)
	}
	for _, c := range []struct {
		name string
		hello
		want string
	}{
		{"no extensions", hello{0x0301, nil, nil}, "t10i010000_"},
		{"SSL 3", hello{0x0300, []uint16{extServerName}, nil}, "ts3d010100_"},
		{"a protocol of one letter", hello{0x0303, []uint16{extALPN}, map[uint16][]byte{extALPN: {0, 2, 1, 'x'}}}, "t12i0101xx_"},
		{"a protocol that is no text", hello{0x0303, []uint16{extALPN}, map[uint16][]byte{extALPN: {0, 3, 2, 0xab, 0xcd}}}, "t12i0101ad_"},
	} {
		h, ok := Parse(build(c.version, []uint16{0x2f}, c.extensions, c.data))
		if !ok || !strings.HasPrefix(h.JA4(), c.want) {
			t.Errorf("%s: got %v %s, want %s...", c.name, ok, h.JA4(), c.want)
		}
	}
}

type hello struct {
	version    uint16
	extensions []uint16
	data       map[uint16][]byte
}

func TestParseTakesOnlyWhatIsWhole(t *testing.T) {
	whole := build(0x0303, []uint16{0x1301}, []uint16{extServerName, extGroups}, map[uint16][]byte{extGroups: list(0x1d)})
	if _, ok := Parse(whole); !ok {
		t.Fatal("the whole is refused")
	}
	for n := range whole {
		// Without any extensions it is whole again.
		if _, ok := Parse(whole[:n]); ok && n != 2+32+1+4+2 {
			t.Errorf("%d of %d bytes are taken", n, len(whole))
		}
	}
	for name, bad := range map[string][]byte{
		"bytes behind":                 append(whole, 0),
		"an odd number of suite bytes": append(append(make([]byte, 35), 0, 1, 9), 1, 0),
		"an extension twice":           build(0x0303, nil, []uint16{extTicket, extTicket}, nil),
		"a list with bytes behind":     build(0x0303, nil, []uint16{extGroups}, map[uint16][]byte{extGroups: append(list(1), 0)}),
		"an odd list":                  build(0x0303, nil, []uint16{extSignatures}, map[uint16][]byte{extSignatures: {0, 1, 9}}),
		"a protocol without a name":    build(0x0303, nil, []uint16{extALPN}, map[uint16][]byte{extALPN: {0, 1, 0}}),
		"versions that are cut":        build(0x0303, nil, []uint16{extVersions}, map[uint16][]byte{extVersions: {4, 3, 4}}),
	} {
		if _, ok := Parse(bad); ok {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestShapeTellsClientsApart(t *testing.T) {
	seed := maphash.MakeSeed()
	of := func(client string) uint64 {
		for _, f := range fixtures(t) {
			if f.Client == client {
				h, _ := Parse(body(t, f.Hello))
				return h.Shape(seed)
			}
		}
		t.Fatalf("no fixture of %s", client)
		return 0
	}
	if of("npm") != of("node-https") {
		t.Error("npm is not the same as Node")
	}
	if of("curl") == of("curl-http1") || of("curl") == of("git") || of("java-urlconnection") == of("java25-urlconnection") {
		t.Error("different clients have the same shape")
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range fixtures(f) {
		f.Add(body(f, c.Hello), c.UserAgent)
	}
	f.Add(build(0x0303, []uint16{0x0a0a}, []uint16{extALPN}, map[uint16][]byte{extALPN: {0, 3, 2, 0x0a, 0x0a}}), "x/1")
	seed := maphash.MakeSeed()
	f.Fuzz(func(t *testing.T, b []byte, agent string) {
		h, ok := Parse(b)
		g := Of(&h, agent)
		if g.Tool == "" || g.Title == "" || g.Basis == "" {
			t.Fatalf("guess %+v", g)
		}
		if !ok {
			if len(h.Suites)+len(h.Extensions) > 0 {
				t.Fatal("something is left of what is not whole")
			}
			return
		}
		if ja4 := h.JA4(); len(ja4) != len("t13d1516h2_8daaf6152771_d8a2da3f94cd") {
			t.Fatalf("JA4 %q", ja4)
		}
		again, _ := Parse(b)
		if h.Shape(seed) != again.Shape(seed) {
			t.Fatal("the shape changes")
		}
		if 2*(len(h.Suites)+len(h.Extensions)+len(h.Groups)+len(h.Signatures)+len(h.Versions)) > len(b) {
			t.Fatal("more than there was")
		}
	})
}
