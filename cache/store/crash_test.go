package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// childEnv tells the test binary which child's part to play; its value is the
// part's name and arguments.
const childEnv = "LARDER_STORE_TEST_CHILD"

// errSkip is in the chain of a child's error when what it needs is not permitted
// here; it ends with the code skipped.
var errSkip = errors.New("not permitted")

const skipped = 77

func TestMain(m *testing.M) {
	part := strings.Fields(os.Getenv(childEnv))
	if len(part) == 0 {
		os.Exit(m.Run())
	}
	all := map[string]func(args []string) error{
		"fill": childFill,
		"open": childOpen,
	}
	maps.Copy(all, parts())
	if err := all[part[0]](part[1:]); err != nil {
		fmt.Println("error:", err)
		if errors.Is(err, errSkip) {
			os.Exit(skipped)
		}
		os.Exit(1)
	}
	os.Exit(0)
}

// child returns a command that runs this test binary as the part.
func child(t *testing.T, part ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(part, " "))
	cmd.Stderr = t.Output()
	return cmd
}

// What object n of the crash test is; every fifth has the content of the one before.
func crashObject(n int) (meta, body []byte) {
	seed := n
	if n%5 == 4 {
		seed--
	}
	sizes := []int{0, 700, 20 << 10, 600 << 10, 3 << 20}
	return fmt.Appendf(nil, "meta of %d", n), content(seed, sizes[seed%len(sizes)])
}

// childFill stores objects from a number on for ever and reports each step that
// is done, so that the parent knows what must be there after it kills this process.
func childFill(args []string) error {
	s, err := Open(Options{Dir: args[0], MaxSize: 1 << 30})
	if err != nil {
		return err
	}
	from, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	for n := from; ; n++ {
		meta, body := crashObject(n)
		fmt.Println("begin", n)
		if err := tryFill(s, key(n), meta, body); err != nil {
			return err
		}
		fmt.Println("stored", n)
		switch {
		case n%7 == 3:
			if err := s.Delete(key(n)); err != nil {
				return err
			}
			fmt.Println("deleted", n)
		case n%7 == 5:
			if err := s.SetMeta(key(n), []byte("changed")); err != nil {
				return err
			}
			fmt.Println("changed", n)
		}
	}
}

// TestKilledInMidFillLosesNothingCommitted kills a process that fills a store, at
// random instants, again and again on the same folder.
func TestKilledInMidFillLosesNothingCommitted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 2))
	did := make(map[int]string) // the last step reported of each object
	next := 0
	for range turns(5, 30) {
		cmd := child(t, "fill", dir, strconv.Itoa(next))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		killAfter := 5 + rng.IntN(120)
		for i := 0; lines.Scan(); i++ {
			step, number, _ := strings.Cut(lines.Text(), " ")
			n, err := strconv.Atoi(number)
			if err != nil {
				t.Fatalf("child said %q", lines.Text())
			}
			did[n], next = step, n+1
			if i == killAfter {
				// What it still managed to say comes with the next lines.
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		verifyCrashed(t, dir, did)
	}
	if len(did) < 60 {
		t.Errorf("only %d objects in all", len(did))
	}
}

// verifyCrashed checks the store against what its writers reported: steps that
// were reported are done, those begun are done or not, and nothing is half done.
func verifyCrashed(t *testing.T, dir string, did map[int]string) {
	t.Helper()
	s := open(t, Options{Dir: dir, MaxSize: 1 << 30})
	for n, step := range did {
		meta, body := crashObject(n)
		switch {
		case step == "stored" && n%7 != 3 && n%7 != 5:
			check(t, s, key(n), meta, body)
		case step == "changed":
			check(t, s, key(n), []byte("changed"), body)
		case step == "deleted":
			absent(t, s, key(n))
		default:
			// Its next step may or may not have happened before the kill.
			o, err := s.Get(key(n))
			if errors.Is(err, fs.ErrNotExist) && (step == "begin" || n%7 == 3) {
				continue
			}
			if err != nil {
				t.Errorf("object %d, last reported as %s: %v", n, step, err)
				continue
			}
			if string(o.Meta()) == "changed" && n%7 == 5 {
				meta = []byte("changed")
			}
			o.Release()
			check(t, s, key(n), meta, body)
		}
	}
	if n := s.Stats().Corrupt; n > 0 {
		t.Errorf("%d damaged objects were visible", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// childOpen opens the store and says what came of it; it ends with its input.
func childOpen(args []string) error {
	s, err := Open(Options{Dir: args[0], MaxSize: minSize})
	if err != nil {
		return err
	}
	fmt.Println("open")
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, s.Close())
}

func TestSecondProcessIsToldTheHoldersPID(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	holder := child(t, "open", dir)
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "open" {
		t.Fatalf("the holder said %q", lines.Text())
	}
	_, err = Open(Options{Dir: dir, MaxSize: minSize})
	locked, ok := errors.AsType[*LockedError](err)
	if !ok || locked.PID != holder.Process.Pid {
		t.Errorf("open: %v, want the pid %d", err, holder.Process.Pid)
	}
	if err := errors.Join(in.Close(), holder.Wait()); err != nil {
		t.Errorf("the holder: %v", err)
	}
	// Nothing that a process leaves behind is an obstacle to the next.
	s := open(t, Options{Dir: dir, MaxSize: minSize})
	second := child(t, "open", dir)
	second.Stdin = bytes.NewReader(nil)
	said, err := second.Output()
	if err == nil || !strings.Contains(string(said), fmt.Sprintf("in use by process %d", os.Getpid())) {
		t.Errorf("a second process: %v, %q", err, said)
	}
	fill(t, s, key(1), nil, nil)
}
