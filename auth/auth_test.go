package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/crypto/bcrypt"
)

// quick makes the line of a user whose hash costs little.
func quick(t testing.TB, user, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), minBcrypt)
	if err != nil {
		t.Fatal(err)
	}
	return user + ":" + string(h)
}

func write(t testing.TB, mode os.FileMode, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, o Options) *Authenticator {
	t.Helper()
	a, err := Open(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

var somebody = netip.MustParseAddr("192.0.2.1")

func TestAuthenticate(t *testing.T) {
	const argon2 = "carol:$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$" // completed below
	carol, err := parseHash(strings.TrimPrefix(argon2, "carol:") + "AAAAAAAAAAAAAAAAAAAAAA")
	if err != nil {
		t.Fatal(err)
	}
	key := argon2Key(carol.(*argon2Hash), "péss:wörd")
	token, line, err := NewToken("ci")
	if err != nil {
		t.Fatal(err)
	}
	const plain = "plain-token-0123456789"
	a := open(t, Options{
		PasswordsFile: write(t, 0o640, "# users", "", quick(t, "alice", "secret"), argon2+key),
		TokensFile:    write(t, 0o600, line, "bot:"+plain),
	})
	for _, c := range []struct{ field, user string }{
		{basic("alice", "secret"), "alice"},
		{"basic  " + strings.TrimPrefix(basic("alice", "secret"), "Basic "), "alice"},
		{basic("carol", "péss:wörd"), "carol"},
		{"Bearer " + token, "ci"},
		{"bearer " + plain, "bot"},
		{basic("ci", token), "ci"},

		{basic("alice", "Secret"), ""},
		{basic("alice", ""), ""},
		{basic("Alice", "secret"), ""},
		{basic("nobody", "secret"), ""},
		{basic("", "secret"), ""},
		{basic("*", "secret"), ""},
		{basic("alice", strings.Repeat("x", 2000)), ""},
		{basic("alice", token), ""}, // somebody else's
		{"Bearer " + token[1:], ""},
		{"Bearer", ""},
		{"Bearer ", ""},
		{"Basic", ""},
		{"Basic !", ""},
		{"Basic " + base64.StdEncoding.EncodeToString([]byte("alice")), ""},
		{"Basic " + base64.StdEncoding.EncodeToString([]byte("alice\x00:secret")), ""},
		{"Basic " + base64.StdEncoding.EncodeToString([]byte("al\xffice:secret")), ""},
		{"Digest username=alice", ""},
		{"", ""},
	} {
		for range 2 { // verified, and remembered
			user, err := a.Authenticate(t.Context(), somebody, c.field)
			if user != c.user || (err == nil) != (c.user != "") || err != nil && !errors.Is(err, ErrRefused) {
				t.Errorf("%q: %q, %v", c.field, user, err)
			}
		}
	}
	if got := a.Challenges(); len(got) != 2 || !strings.HasPrefix(got[0], "Basic ") || !strings.HasPrefix(got[1], "Bearer ") {
		t.Errorf("challenges %q", got)
	}
}

func argon2Key(h *argon2Hash, password string) string {
	return base64.RawStdEncoding.EncodeToString(h.derive(password))
}

func TestBcryptLooksAt72BytesAndNoMoreAreTaken(t *testing.T) {
	password := strings.Repeat("p", 72)
	a := open(t, Options{PasswordsFile: write(t, 0o600, quick(t, "alice", password))})
	if _, err := a.Authenticate(t.Context(), somebody, basic("alice", password)); err != nil {
		t.Error(err)
	}
	if _, err := a.Authenticate(t.Context(), somebody, basic("alice", password+"x")); !errors.Is(err, ErrRefused) {
		t.Errorf("a longer password: %v", err)
	}
}

func TestLinesThatHashAndNewTokenMakeAreRead(t *testing.T) {
	line, err := Hash("alice", "secret")
	if err != nil {
		t.Fatal(err)
	}
	a := open(t, Options{PasswordsFile: write(t, 0o600, line)})
	if user, err := a.Authenticate(t.Context(), somebody, basic("alice", "secret")); user != "alice" || err != nil {
		t.Errorf("%q, %v", user, err)
	}
	for _, c := range [][2]string{{"", "x"}, {"a:b", "x"}, {"*", "x"}, {"a\n", "x"}, {"a", ""}, {"a", strings.Repeat("x", 1025)}} {
		if line, err := Hash(c[0], c[1]); err == nil {
			t.Errorf("%q: %s", c, line)
		}
	}
	if _, line, err := NewToken("a:b"); err == nil {
		t.Error(line)
	}
}

// TestBadFiles: an error names file, line and what to do, and quotes nothing.
func TestBadFiles(t *testing.T) {
	const good = "$2y$05$abcdefghijklmnopqrstuu5s1vMPMQ9Jt8QaR/uxoE2GJE8C2UUWm"
	for _, c := range []struct {
		name, line, want string
		mode             os.FileMode
	}{
		{"open to all", "hunter2:" + good, "mode 0644 lets others in", 0o644},
		{"written by the group", "hunter2:" + good, "mode 0660 lets others in", 0o660},
		{"executable", "hunter2:" + good, "mode 0700 lets others in", 0o700},
		{"no colon", "hunter2", "no colon", 0o600},
		{"no name", ":" + good, "the name must be", 0o600},
		{"plain", "alice:hunter2", "neither a bcrypt nor an argon2id hash", 0o600},
		{"apr1", "alice:$apr1$hunter2$hunter2", "neither a bcrypt", 0o600},
		{"sha1", "alice:{SHA}hunter2", "neither a bcrypt", 0o600},
		{"short bcrypt", "alice:$2y$05$hunter2", "not a whole bcrypt hash", 0o600},
		{"cheap bcrypt", "alice:$2y$04$" + good[7:], "bcrypt of cost 4", 0o600},
		{"dear bcrypt", "alice:$2y$31$" + good[7:], "bcrypt of cost 31", 0o600},
		{"argon2i", "alice:$argon2i$v=19$m=64,t=1,p=1$hunter2", "neither a bcrypt", 0o600},
		{"argon2 cut", "alice:$argon2id$v=19$m=64,t=1,p=1$hunter2", "not a whole argon2id", 0o600},
		{"old argon2", "alice:$argon2id$v=16$m=64,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", "another version", 0o600},
		{"dear argon2", "alice:$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", "whose costs are not", 0o600},
		{"argon2 sign", "alice:$argon2id$v=19$m=+64,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", "whose costs are not", 0o600},
		{"argon2 nothing", "alice:$argon2id$v=19$m=,t=,p=$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", "whose costs are not", 0o600},
		{"short key", "alice:$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAA", "whose key is not", 0o600},
		{"twice", "alice:" + good + "\nalice:" + good, "line 2: the name has a line already", 0o600},
		{"nobody", "# nobody", "no user in it", 0o600},
		{"long", "alice:" + strings.Repeat("x", 5000), "longer than 4 KiB", 0o600},
	} {
		path := write(t, c.mode, c.line)
		_, err := Open(Options{PasswordsFile: path}, nil)
		e, ok := errors.AsType[*FileError](err)
		if !ok || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error()+e.Hint(), "hunter2") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, c := range []struct{ name, line, want string }{
		{"short", "ci:hunter2", "a token has 16 to 1024"},
		{"spaces", "ci:hunter2 hunter2 hunter2", "a token has 16 to 1024"},
		{"digest", "ci:sha256:hunter2", "64 hexadecimal digits"},
		{"long digest", "ci:sha256:" + strings.Repeat("00", 33), "64 hexadecimal digits"},
		{"twice", "ci:hunter2hunter2hunter2\nbot:hunter2hunter2hunter2", "line 2: the token has a line already"},
		{"nobody", "", "no token in it"},
	} {
		_, err := Open(Options{TokensFile: write(t, 0o600, c.line)}, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := Open(Options{PasswordsFile: t.TempDir()}, nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Open(Options{TokensFile: filepath.Join(t.TempDir(), "absent")}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
}

// TestReread: a bad file leaves all as it was, a good one ends what is not in it any
// more, and what did not change is not verified again.
func TestReread(t *testing.T) {
	r := prometheus.NewRegistry()
	alice := quick(t, "alice", "secret")
	path := write(t, 0o600, alice, quick(t, "bob", "secret"))
	a, err := Open(Options{PasswordsFile: path}, r)
	if err != nil {
		t.Fatal(err)
	}
	try := func(user string, want error) {
		t.Helper()
		if _, err := a.Authenticate(t.Context(), somebody, basic(user, "secret")); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", user, err, want)
		}
	}
	try("alice", nil)
	try("bob", nil)
	rewrite := func(text string) error {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		next, err := a.Reread(Options{PasswordsFile: path})
		if err == nil {
			try("alice", nil) // until the owner says so
			a = next
		}
		return err
	}
	if err := rewrite("alice:plain\n"); err == nil {
		t.Error("a bad file is taken")
	}
	try("alice", nil)
	try("bob", nil)
	if err := rewrite(alice + "\n" + quick(t, "bob", "other") + "\n"); err != nil {
		t.Fatal(err)
	}
	try("alice", nil)
	try("bob", ErrRefused)
	if err := rewrite(quick(t, "carol", "secret") + "\n"); err != nil {
		t.Fatal(err)
	}
	try("alice", ErrRefused)
	for result, want := range map[string]float64{resultVerified: 2, resultRemembered: 5, resultRefused: 2} {
		if got := testutil.ToFloat64(a.metrics.attempts.WithLabelValues(result)); got != want {
			t.Errorf("%s: %v, want %v", result, got, want)
		}
	}
	if problems, err := testutil.GatherAndLint(r); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// countingHash counts what it is asked.
type countingHash struct {
	mu    sync.Mutex
	asked int
	now   int // running at this moment
	most  int
	good  string
	block chan struct{} // nil: do not
}

func (h *countingHash) matches(password string) bool {
	h.mu.Lock()
	h.asked++
	h.now++
	h.most = max(h.most, h.now)
	h.mu.Unlock()
	if h.block != nil {
		<-h.block
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now--
	return password == h.good
}

func counting(a *Authenticator, h *countingHash, users ...string) {
	p := passwords{of: map[string]passwordHash{}, text: map[string]string{}, all: []passwordHash{h}}
	for _, u := range users {
		p.of[u], p.text[u] = h, "hash of "+u
	}
	a.book = &book{passwords: p}
}

func TestANameThatNobodyHasCostsWhatAWrongPasswordCosts(t *testing.T) {
	a, h := open(t, Options{}), &countingHash{good: "secret"}
	counting(a, h, "alice")
	for i, c := range []struct{ user, password string }{
		{"alice", "wrong"},
		{"nobody", "wrong"},
		{"nobody", "secret"}, // right for whom the hash belongs to
	} {
		if _, err := a.Authenticate(t.Context(), somebody, basic(c.user, c.password)); !errors.Is(err, ErrRefused) {
			t.Errorf("%v: %v", c, err)
		}
		if h.asked != i+1 {
			t.Errorf("%v: %d verifications, want %d", c, h.asked, i+1)
		}
	}
	p := passwords{all: make([]passwordHash, 5)}
	for i := range p.all {
		p.all[i] = &countingHash{}
	}
	first, _ := p.standIn("nobody", a.number("nobody"))
	again, _ := p.standIn("nobody", a.number("nobody"))
	if first != again {
		t.Error("another hash stands in each time, which a name that somebody has does not do")
	}
}

func TestWhatWasVerifiedIsRememberedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, h := open(t, Options{}), &countingHash{good: "secret"}
		counting(a, h, "alice")
		try := func(password string, wait time.Duration, verifications int) {
			t.Helper()
			time.Sleep(wait)
			_, err := a.Authenticate(t.Context(), somebody, basic("alice", password))
			if (err == nil) != (password == "secret") || h.asked != verifications {
				t.Errorf("%s: %v after %d verifications, want %d", password, err, h.asked, verifications)
			}
		}
		try("secret", 0, 1)
		try("secret", rememberGood-time.Second, 1)
		try("secret", time.Second, 2)
		try("wrong", 0, 3)
		try("wrong", rememberBad-time.Second, 3)
		try("wrong", time.Second, 4)
	})
}

// TestAFloodOfGuesses takes few verifications at a time, refuses what the queue does
// not hold, and lets in those who are known.
func TestAFloodOfGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, h := open(t, Options{}), &countingHash{good: "secret"}
		counting(a, h, "alice")
		if _, err := a.Authenticate(t.Context(), somebody, basic("alice", "secret")); err != nil {
			t.Fatal(err)
		}
		h.block = make(chan struct{})
		attacker := netip.MustParseAddr("198.51.100.66")
		results := make(chan error, 100)
		for i := range 100 {
			go func() {
				_, err := a.Authenticate(context.Background(), attacker, basic("alice", fmt.Sprint(i)))
				results <- err
			}()
		}
		synctest.Wait()
		busy := len(results)
		if want := 100 - maxOfClient - cap(a.queue.running); busy != want {
			t.Errorf("%d guesses are refused at once, want %d", busy, want)
		}
		if _, err := a.Authenticate(t.Context(), attacker, basic("alice", "secret")); err != nil {
			t.Errorf("a known user: %v", err)
		}
		late := make(chan error, 1)
		go func() {
			_, err := a.Authenticate(t.Context(), somebody, basic("bob", "secret"))
			late <- err
		}()
		synctest.Wait()
		select {
		case err := <-late:
			t.Errorf("somebody from elsewhere does not get to wait: %v", err)
		default:
		}
		time.Sleep(longestWait + time.Second) // no longer at the moment in which their waits end
		close(h.block)
		synctest.Wait()
		if err := <-late; !errors.Is(err, ErrBusy) {
			t.Errorf("after the longest wait: %v", err)
		}
		if h.most > cap(a.queue.running) {
			t.Errorf("%d verifications at a time, want %d", h.most, cap(a.queue.running))
		}
		if a.queue.waiting != 0 || len(a.queue.of) != 0 {
			t.Errorf("the queue keeps %d, %v", a.queue.waiting, a.queue.of)
		}
	})
}

func TestManyConnectionsOfOneClientAreOneVerification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, h := open(t, Options{}), &countingHash{good: "secret", block: make(chan struct{})}
		counting(a, h, "alice")
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() {
				if _, err := a.Authenticate(context.Background(), somebody, basic("alice", "secret")); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(h.block)
		all.Wait()
		if h.asked != 1 {
			t.Errorf("%d verifications", h.asked)
		}
	})
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	m := newMemory()
	for i := range maxGood + maxBad + 100 {
		var key digest
		key[0], key[1], key[2] = byte(i), byte(i>>8), byte(i>>16)
		m.keep(key, false)
		m.keep(key, true)
	}
	if len(m.good.until) != maxGood || len(m.bad.until) != maxBad {
		t.Errorf("%d good, %d bad", len(m.good.until), len(m.bad.until))
	}
}

func FuzzAuthenticate(f *testing.F) {
	a := open(f, Options{
		PasswordsFile: write(f, 0o600, quick(f, "alice", "secret")),
		TokensFile:    write(f, 0o600, "bot:plain-token-0123456789"),
	})
	for _, s := range []string{basic("alice", "secret"), "Bearer plain-token-0123456789", "Basic", "Bearer =", basic("alice", ":"), "Basic YQ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) {
		user, err := a.Authenticate(t.Context(), somebody, field)
		if (user == "") != (err != nil) || user != "" && user != "alice" && user != "bot" {
			t.Errorf("%q: %q, %v", field, user, err)
		}
	})
}

func FuzzReadFiles(f *testing.F) {
	f.Add("alice:$2y$05$abcdefghijklmnopqrstuu5s1vMPMQ9Jt8QaR/uxoE2GJE8C2UUWm")
	f.Add("alice:$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA\n#x\n\nb:c")
	f.Add("ci:sha256:" + strings.Repeat("0a", 32))
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := readPasswords(path)
		if err == nil && (len(p.all) == 0 || len(p.all) != len(p.of)) {
			t.Errorf("%d hashes of %d users", len(p.all), len(p.of))
		}
		a := &verifier{key: []byte("key")}
		if tokens, err := a.readTokens(path); err == nil && len(tokens) == 0 {
			t.Error("no token and no error")
		}
	})
}
