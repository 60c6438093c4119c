package git

import (
	"errors"
	"strings"
	"testing"
	"testing/iotest"
)

// v2 is a request of version 2.
func v2(command string, arguments ...string) string {
	return lines(append([]string{"command=" + command, "agent=git/2.39.5", "object-format=sha1", "0001"}, append(arguments, "0000")...)...)
}

func TestKinds(t *testing.T) {
	t.Parallel()
	const second, zeroth = "version=2", ""
	caps := " multi_ack_detailed no-done side-band-64k thin-pack include-tag ofs-delta deepen-since deepen-not agent=git/2.39.5\n"
	tests := []struct {
		name, protocol, body string
		want                 Kind
	}{
		{"a clone", second, v2("fetch", "thin-pack", "no-progress", "include-tag", "ofs-delta", "want "+one+"\n", "want "+two+"\n", "done\n"), Fetch},
		{"a clone that does not say done", second, v2("fetch", "want "+one), Fetch},
		{"a step of the negotiation", second, v2("fetch", "want "+one, "have "+two), Fetch},
		{"shallow", second, v2("fetch", "want "+one, "deepen 1", "done"), Fetch},
		{"from shallow", second, v2("fetch", "shallow "+two, "deepen-relative", "deepen 3", "want "+one, "done"), Fetch},
		{"shallow since", second, v2("fetch", "deepen-since 1700000000", "want "+one, "done"), Fetch},
		{"blobless", second, v2("fetch", "filter blob:none", "want "+one, "done"), Fetch},
		{"a filter of filters", second, v2("fetch", "filter combine:blob:none+tree%3A3", "want "+one, "done"), Fetch},
		{"small blobs", second, v2("fetch", "filter blob:limit=1k", "want "+one, "done"), Fetch},
		{"sparse by name of an object", second, v2("fetch", "filter sparse:oid="+two, "want "+one, "done"), Fetch},
		{"all in sidebands", second, v2("fetch", "sideband-all", "want "+one, "done"), Fetch},
		{"SHA-256", second, lines("command=fetch", "object-format=sha256", "0001", "want "+big, "done", "0000"), Fetch},
		{"the refs", second, v2("ls-refs", "peel", "symrefs", "unborn", "ref-prefix refs/heads/"), Refs},
		{"the refs without arguments", second, lines("command=ls-refs", "0000"), Refs},

		{"a ref, which is another object tomorrow", second, v2("fetch", "want-ref refs/heads/main", "done"), Other},
		{"not what a ref has", second, v2("fetch", "want "+one, "deepen-not refs/tags/v1", "done"), Other},
		{"sparse by name of a branch", second, v2("fetch", "filter sparse:oid=main:spec", "want "+one, "done"), Other},
		{"an unknown filter", second, v2("fetch", "filter blob:odd", "want "+one, "done"), Other},
		{"URIs, which expire", second, v2("fetch", "packfile-uris https", "want "+one, "done"), Other},
		{"a server's own option", second, lines("command=fetch", "server-option=x", "0001", "want "+one, "done", "0000"), Other},
		{"an unknown argument", second, v2("fetch", "want "+one, "frobnicate", "done"), Other},
		{"an unknown command", second, v2("bundle-uri"), Other},
		{"object-info", second, v2("object-info", "size", "oid "+one), Other},
		{"a short name", second, v2("fetch", "want "+one[:39], "done"), Other},
		{"a name in upper case", second, v2("fetch", "want "+strings.Repeat("A", 40), "done"), Other},
		{"a SHA-256 among SHA-1", second, v2("fetch", "want "+big, "done"), Other},
		{"a SHA-1 among SHA-256", second, lines("command=fetch", "object-format=sha256", "0001", "want "+one, "done", "0000"), Other},
		{"two formats", second, lines("command=fetch", "object-format=sha1", "object-format=sha256", "0001", "want "+one, "0000"), Other},
		{"nothing wanted", second, v2("fetch", "done"), Other},
		{"two requests", second, v2("fetch", "want "+one, "done") + v2("ls-refs"), Other},
		{"something after the end", second, v2("fetch", "want "+one, "done") + "\n", Other},
		{"no end", second, lines("command=fetch", "0001", "want "+one, "done"), Other},
		{"cut in a line", second, v2("fetch", "want "+one, "done")[:60], Other},
		{"a length that is none", second, "xxxx", Other},
		{"a line without data", second, "0004", Other},
		{"a version nobody knows", "version=3", v2("fetch", "want "+one, "done"), Other},
		{"several versions", "version=1:version=2", v2("fetch", "want "+one, "done"), Other},
		{"version 2 said to be 0", zeroth, v2("fetch", "want "+one, "done"), Other},
		{"nothing", second, "", Other},

		{"v0: a clone", zeroth, lines("want "+one+caps, "want "+two+"\n", "0000", "done\n"), Fetch},
		{"v1: a clone", "version=1", lines("want "+one+caps, "0000", "done\n"), Fetch},
		{"v0: a step of the negotiation", zeroth, lines("want "+one+caps, "0000", "have "+two+"\n", "0000"), Fetch},
		{"v0: its end", zeroth, lines("want "+one+caps, "0000", "have "+two+"\n", "0000", "have "+one, "done"), Fetch},
		{"v0: a depth", zeroth, lines("want "+one+caps, "deepen 1", "0000"), Fetch},
		{"v0: from shallow, filtered", zeroth, lines("want "+one+" filter", "shallow "+two, "deepen 2", "filter tree:0", "0000", "done"), Fetch},
		{"v0: SHA-256", zeroth, lines("want "+big+" object-format=sha256", "0000", "done"), Fetch},
		{"v0: SHA-256 that is not announced", zeroth, lines("want "+big+caps, "want "+big, "0000", "done"), Fetch},
		{"v0: both", zeroth, lines("want "+big+caps, "want "+one, "0000", "done"), Other},
		{"v0: SHA-256 that is announced as SHA-1", zeroth, lines("want "+big+" object-format=sha1", "0000", "done"), Other},
		{"v0: without capabilities", zeroth, lines("want "+one, "0000", "done"), Fetch},
		{"v0: an unknown capability", zeroth, lines("want "+one+" frobnicate", "0000", "done"), Other},
		{"v0: a capability with a value it has not", zeroth, lines("want "+one+" thin-pack=1", "0000", "done"), Other},
		{"v0: not what a ref has", zeroth, lines("want "+one+caps, "deepen-not refs/tags/v1", "0000", "done"), Other},
		{"v0: version 1 and 2", "version=2", lines("want "+one+caps, "0000", "done"), Other},
		{"v0: nothing wanted", zeroth, lines("0000", "done"), Other},
		{"v0: nothing wanted at first", zeroth, lines("shallow "+one, "want "+two, "0000", "done"), Other},
		{"v0: a have among the wants", zeroth, lines("want "+one, "have "+two, "0000", "done"), Other},
		{"v0: a want among the haves", zeroth, lines("want "+one, "0000", "want "+two, "done"), Other},
		{"v0: something after done", zeroth, lines("want "+one, "0000", "done", "0000"), Other},
		{"v0: a delimiter", zeroth, lines("want "+one, "0000", "0001", "done"), Other},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ReadRequest(strings.NewReader(tt.body), tt.protocol)
			if err != nil {
				t.Fatal(err)
			}
			if got.Kind != tt.want {
				t.Errorf("kind %d, want %d", got.Kind, tt.want)
			}
			if (got.Digest == [32]byte{}) != (tt.want == Other) {
				t.Errorf("digest %x of kind %d", got.Digest, got.Kind)
			}
		})
	}
}

func TestDigestIsOfWhatIsAsked(t *testing.T) {
	t.Parallel()
	digest := func(protocol, body string) [32]byte {
		t.Helper()
		r, err := ReadRequest(strings.NewReader(body), protocol)
		if err != nil || r.Kind == Other {
			t.Fatalf("%q: kind %d, %v", body, r.Kind, err)
		}
		return r.Digest
	}
	ask := func(agent string, arguments ...string) string {
		return lines(append([]string{"command=fetch", agent, "object-format=sha1", "0001"}, append(arguments, "0000")...)...)
	}
	plain := digest("version=2", ask("agent=git/2.39.5", "want "+one, "done"))
	for name, body := range map[string]string{
		"another git":      ask("agent=git/2.51.0-Linux", "want "+one, "done"),
		"another session":  ask("session-id=77", "want "+one, "done"),
		"with line feeds":  ask("agent=x\n", "want "+one+"\n", "done\n"),
		"feeds of another": ask("agent=x", "want "+one+"\n", "done"),
	} {
		if digest("version=2", body) != plain {
			t.Errorf("%s: another digest", name)
		}
	}
	seen := map[[32]byte]string{plain: "plain"}
	for name, body := range map[string]string{
		"another want":   ask("agent=x", "want "+two, "done"),
		"two wants":      ask("agent=x", "want "+one, "want "+two, "done"),
		"a have":         ask("agent=x", "want "+one, "have "+two, "done"),
		"not done":       ask("agent=x", "want "+one),
		"no progress":    ask("agent=x", "no-progress", "want "+one, "done"),
		"a depth":        ask("agent=x", "deepen 1", "want "+one, "done"),
		"another depth":  ask("agent=x", "deepen 2", "want "+one, "done"),
		"an unsaid hash": lines("command=fetch", "0001", "want "+one, "done", "0000"),
	} {
		d := digest("version=2", body)
		if other, taken := seen[d]; taken {
			t.Errorf("%s has the digest of %s", name, other)
		}
		seen[d] = name
	}
	v0 := digest("", lines("want "+one+" thin-pack ofs-delta agent=a", "0000", "done"))
	if v0 != digest("", lines("want "+one+" ofs-delta  agent=b thin-pack\n", "0000", "done\n")) {
		t.Error("the order of capabilities or the agent changes the digest")
	}
	if v0 == digest("version=1", lines("want "+one+" thin-pack ofs-delta", "0000", "done")) {
		t.Error("versions share a digest")
	}
	if digest("", lines("want "+one, "0000", "have "+two, "0000", "have "+one, "0000")) ==
		digest("", lines("want "+one, "0000", "have "+two, "have "+one, "0000")) {
		t.Error("steps of the negotiation share a digest")
	}
}

func TestReadRequestTellsOfItsReader(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	if _, err := ReadRequest(iotest.ErrReader(broken), "version=2"); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add(v2("fetch", "want "+one, "have "+two, "filter combine:blob:none+tree:1", "done"), "version=2")
	f.Add(v2("ls-refs", "peel", "ref-prefix refs/"), "version=2")
	f.Add(lines("want "+one+" multi_ack side-band-64k agent=x", "deepen 1", "0000", "have "+two, "0000", "done"), "")
	f.Add(lines("want "+big+" object-format=sha256", "0000"), "version=1")
	f.Fuzz(func(t *testing.T, body, protocol string) {
		whole, err := ReadRequest(strings.NewReader(body), protocol)
		if err != nil {
			t.Fatal(err)
		}
		pieces, err := ReadRequest(iotest.OneByteReader(strings.NewReader(body)), protocol)
		if err != nil || *pieces != *whole {
			t.Fatalf("in pieces %+v, %v, else %+v", pieces, err, whole)
		}
		if whole.Kind == Other {
			return
		}
		if longer, _ := ReadRequest(strings.NewReader(body+"0000"), protocol); longer.Digest == whole.Digest {
			t.Fatal("a longer request has the same digest")
		}
		if _, err := whole.Answer().Done(); err == nil && whole.Kind == Refs {
			t.Fatal("no answer is a whole one")
		}
	})
}
