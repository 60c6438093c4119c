package git

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func mustRead(t testing.TB, protocol, body string) *Request {
	t.Helper()
	r, err := ReadRequest(strings.NewReader(body), protocol)
	if err != nil || r.Kind == Other {
		t.Fatalf("%q is of kind %d, %v", body, r.Kind, err)
	}
	return r
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	clone := v2("fetch", "want "+one, "done")
	step := v2("fetch", "want "+one, "have "+two)
	all := v2("fetch", "sideband-all", "want "+one, "done")
	large := lines("command=fetch", "object-format=sha256", "0001", "want "+big, "done", "0000")
	refs := v2("ls-refs", "peel")
	const caps = " multi_ack_detailed side-band-64k no-done"
	clone0 := lines("want "+one+caps, "0000", "done")
	step0 := lines("want "+one+caps, "0000", "have "+two, "0000")
	depth0 := lines("want "+one+caps, "deepen 1", "0000")
	shallow0 := lines("want "+one+caps, "deepen 1", "0000", "done")
	raw0 := lines("want "+one, "0000", "done")
	p, p256 := pack1("objects"), pack256("objects")
	progress, keepalive := lines("\x02Enumerating\n"), lines("\x01")
	body := lines("packfile\n") + progress + banded(p, 5) + keepalive

	tests := []struct {
		name, protocol, request, answer string
		why                             string
		err                             error
	}{
		{"a clone", "version=2", clone, body + "0000", "", nil},
		{"a shallow one", "version=2", clone, lines("shallow-info", "shallow "+one, "0001") + body + "0000", "", nil},
		{"a step and the pack", "version=2", step, lines("acknowledgments\n", "ACK "+two+"\n", "ready\n", "0001") + body + "0000", "", nil},
		{"a step", "version=2", step, lines("acknowledgments\n", "NAK\n", "0000"), "", nil},
		{"all sections", "version=2", step, lines("acknowledgments", "ready", "0001", "shallow-info", "unshallow "+one, "0001") + body + "0000", "", nil},
		{"all in sidebands", "version=2", all, lines("\x02", "\x01shallow-info", "\x02hm", "\x01shallow "+one, "0001", "\x01packfile") + banded(p, 9) + "0000", "", nil},
		{"SHA-256", "version=2", large, lines("packfile") + banded(p256, 1000) + "0000", "", nil},
		{"refs", "version=2", refs, lines(one+" HEAD symref-target:refs/heads/main\n", two+" refs/heads/"+strings.Repeat("x", 999)+"\n", "0000"), "", nil},
		{"no refs", "version=2", refs, "0000", "", nil},

		{"an error", "version=2", clone, lines("ERR upload-pack: not our ref " + one), "error", nil},
		{"an error in a sideband", "version=2", clone, body + lines("\x03out of memory") + "0000", "error", nil},
		{"an error before the pack", "version=2", all, lines("\x03no"), "error", nil},
		{"an error among refs", "version=2", refs, lines(one+" HEAD\n", "ERR no\n"), "error", nil},
		{"no pack though it is done", "version=2", clone, lines("acknowledgments", "NAK", "0000"), "no-pack", nil},
		{"a section nobody asked for", "version=2", clone, lines("packfile-uris", one+" https://x.test/", "0001") + body + "0000", "not-understood", nil},
		{"sections in another order", "version=2", clone, lines("shallow-info", "0001", "acknowledgments", "ready", "0001") + body + "0000", "not-understood", nil},
		{"no longer negotiating, and not ready", "version=2", step, lines("acknowledgments", "NAK", "0001") + body + "0000", "not-understood", nil},
		{"ready, and no more", "version=2", step, lines("acknowledgments", "ready", "0000"), "not-understood", nil},
		{"a page", "version=2", clone, "<html>sorry</html>", "not-understood", nil},
		{"a fourth sideband", "version=2", clone, lines("packfile", "\x04x", "0000"), "not-understood", nil},
		{"more after the end", "version=2", clone, body + "0000" + "0000", "more-than-expected", nil},

		{"nothing", "version=2", clone, "", "", io.ErrUnexpectedEOF},
		{"cut before its end", "version=2", clone, body, "", io.ErrUnexpectedEOF},
		{"cut in the pack", "version=2", clone, lines("packfile") + banded(p[:20], 9), "", io.ErrUnexpectedEOF},
		{"cut in the pack, and ended", "version=2", clone, lines("packfile") + banded(p[:20], 9) + "0000", "", io.ErrUnexpectedEOF},
		{"a pack that lost its end", "version=2", clone, lines("packfile") + banded(p[:len(p)-1], 9) + "0000", "", errChecksum},
		{"a pack that lost its middle", "version=2", clone, lines("packfile") + banded(p[:14]+p[15:], 9) + "0000", "", errChecksum},
		{"a damaged pack", "version=2", clone, lines("packfile") + banded(flipped(p, 14), 9) + "0000", "", errChecksum},
		{"a damaged checksum", "version=2", clone, lines("packfile") + banded(flipped(p, len(p)-1), 9) + "0000", "", errChecksum},
		{"no pack in it", "version=2", clone, lines("packfile") + banded(pack1("x")[1:]+strings.Repeat("x", 20), 9) + "0000", "", errNoPack},
		{"an empty pack", "version=2", clone, lines("packfile", "0000"), "", io.ErrUnexpectedEOF},
		{"a checksum of another kind", "version=2", large, lines("packfile") + banded(p+"xxxxxxxxxxxxxx", 9) + "0000", "", errChecksum},
		{"cut in a line", "version=2", clone, (body + "0000")[:len(body)+2], "", io.ErrUnexpectedEOF},
		{"cut refs", "version=2", refs, lines(one + " HEAD\n"), "", io.ErrUnexpectedEOF},
		{"a cut step", "version=2", step, lines("acknowledgments", "NAK"), "", io.ErrUnexpectedEOF},

		{"v0: a clone", "", clone0, lines("NAK\n") + progress + keepalive + banded(p, 3) + "0000", "", nil},
		{"v0: a step", "", step0, lines("ACK "+two+" common\n", "ACK "+two+" ready\n", "NAK\n"), "", nil},
		{"v0: a step and the pack", "", step0, lines("ACK "+two+" ready\n", "NAK\n", "ACK "+two+"\n") + banded(p, 99) + "0000", "", nil},
		{"v0: a depth", "", depth0, lines("shallow "+one, "0000"), "", nil},
		{"v0: a depth and a NAK", "", depth0, lines("shallow "+one, "unshallow "+two, "0000", "NAK"), "", nil},
		{"v0: a shallow clone", "", shallow0, lines("shallow "+one, "0000", "NAK") + banded(p, 7) + "0000", "", nil},
		{"v0: in no sideband", "", raw0, lines("NAK") + p, "", nil},
		{"v0: SHA-256", "", lines("want "+big+caps, "0000", "done"), lines("NAK") + banded(p256, 99) + "0000", "", nil},
		{"v0: an error", "", clone0, lines("ERR upload-pack: not our ref"), "error", nil},
		{"v0: an error in a sideband", "", clone0, lines("NAK", "\x03aborting\n"), "error", nil},
		{"v0: no depth", "", depth0, lines("NAK"), "not-understood", nil},
		{"v0: nothing to a step", "", step0, "", "not-understood", nil},
		{"v0: a pack in no sideband though there are", "", clone0, lines("NAK") + p, "not-understood", nil},
		{"v0: a cut depth", "", depth0, lines("shallow " + one), "not-understood", nil},
		{"v0: a pack out of nothing", "", raw0, p, "not-understood", nil},
		{"v0: cut before the pack", "", clone0, lines("NAK"), "", io.ErrUnexpectedEOF},
		{"v0: cut before its end", "", clone0, lines("NAK") + banded(p, 3), "", io.ErrUnexpectedEOF},
		{"v0: a step's pack cut before its end", "", step0, lines("ACK "+two) + banded(p, 3), "", io.ErrUnexpectedEOF},
		{"v0: cut, in no sideband", "", raw0, lines("NAK") + p[:len(p)-1], "", errChecksum},
		{"v0: damaged, in no sideband", "", raw0, lines("NAK") + flipped(p, 15), "", errChecksum},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := mustRead(t, tt.protocol, tt.request)
			for _, size := range []int{1, 2, 7, len(tt.answer) + 1} {
				a := r.Answer()
				for s := tt.answer; s != ""; {
					n := min(size, len(s))
					if wrote, err := a.Write([]byte(s[:n])); wrote != n || err != nil {
						t.Fatalf("Write: %d, %v", wrote, err)
					}
					s = s[n:]
				}
				if why, err := a.Done(); why != tt.why || !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
					t.Errorf("in pieces of %d: %q, %v, want %q, %v", size, why, err, tt.why, tt.err)
				}
			}
		})
	}
}

// FuzzAnswer holds that pieces make no difference, and that no part of a whole answer
// is one.
func FuzzAnswer(f *testing.F) {
	requests := []struct{ protocol, body string }{
		{"version=2", v2("fetch", "want "+one, "done")},
		{"version=2", v2("fetch", "want "+one, "have "+two)},
		{"version=2", v2("fetch", "sideband-all", "want "+one, "done")},
		{"version=2", v2("ls-refs")},
		{"", lines("want "+one+" multi_ack side-band", "0000", "have "+two, "0000")},
		{"", lines("want "+one, "deepen 1", "0000", "done")},
	}
	p := pack1("objects")
	f.Add(byte(0), lines("packfile")+banded(p, 5)+"0000", byte(3))
	f.Add(byte(1), lines("acknowledgments", "ready", "0001", "packfile")+banded(p, 5)+"0000", byte(1))
	f.Add(byte(2), lines("\x01packfile", "\x02hm")+banded(p, 50)+"0000", byte(9))
	f.Add(byte(3), lines(one+" HEAD", "0000"), byte(4))
	f.Add(byte(4), lines("ACK "+two, "NAK")+banded(p, 5)+"0000", byte(5))
	f.Add(byte(5), lines("shallow "+one, "0000", "NAK")+p, byte(2))
	f.Fuzz(func(t *testing.T, which byte, answer string, size byte) {
		q := requests[int(which)%len(requests)]
		r := mustRead(t, q.protocol, q.body)
		whole := r.Answer()
		_, _ = io.WriteString(whole, answer)
		why, err := whole.Done()
		pieces := r.Answer()
		for s := answer; s != ""; {
			n := min(int(size)+1, len(s))
			_, _ = io.WriteString(pieces, s[:n])
			s = s[n:]
		}
		why2, err2 := pieces.Done()
		if why != why2 || (err == nil) != (err2 == nil) {
			t.Fatalf("%q, %v in pieces, else %q, %v", why2, err2, why, err)
		}
		if err != nil || why != "" || whole.pack == nil {
			return
		}
		short := r.Answer()
		_, _ = io.WriteString(short, answer[:len(answer)-1])
		if why, err := short.Done(); why == "" && err == nil {
			t.Fatal("a part of the answer is whole as well")
		}
	})
}
