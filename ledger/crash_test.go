package ledger

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

const writerVariable = "LARDER_TEST_LEDGER"

// TestMain is a process that writes until it is killed, where the variable names a folder.
func TestMain(m *testing.M) {
	if dir := os.Getenv(writerVariable); dir != "" {
		writeForEver(dir)
	}
	os.Exit(m.Run())
}

func writeForEver(dir string) {
	l, err := Open(Options{Dir: dir, level: 6})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := int(l.Stats().Entries); ; i++ {
		if _, _, err := l.Observe(Seen{URL: url(i), SHA256: digestOf(fmt.Sprint(i))}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if i%50 == 0 {
			if err := l.Sync(); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
		fmt.Println(i)
	}
}

// TestKilledWriterLosesNothing: what Observe has returned for is there, and right, after
// the process was killed, however often.
func TestKilledWriterLosesNothing(t *testing.T) {
	dir := t.TempDir()
	written := -1
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerVariable+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		until := written + 70 + 31*round
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			n, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
			if err != nil {
				t.Errorf("the writer says %q", lines.Text())
				break
			}
			written = n
			if n == until {
				_ = cmd.Process.Kill() // and read on what it has said before it died
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed

		l := openLedger(t, Options{Dir: dir, level: 6})
		if n := l.Stats().Entries; n < int64(written)+1 {
			t.Errorf("round %d: %d entries, and %d were written", round, n, written+1)
		}
		for i := range written + 1 {
			if e, err := l.Current(url(i), ""); err != nil || e.SHA256 != digestOf(fmt.Sprint(i)) {
				t.Fatalf("round %d: Current(%s) = %+v, %v", round, url(i), e, err)
			}
		}
		if _, err := l.Verify(""); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWriteThatFailsIsNoEntry: as on a full disk. The next one is written in its place.
func TestWriteThatFailsIsNoEntry(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(t, Options{Dir: dir, level: small})
	fill(t, l, 3)
	good := l.active.file
	bad, err := os.Open(segmentPath(dir, 0)) // for reading
	if err != nil {
		t.Fatal(err)
	}
	l.active.file = bad
	if _, _, err := l.Observe(Seen{URL: url(3), SHA256: digestOf("3")}); err == nil || errors.Is(err, ErrFull) {
		t.Errorf("Observe = %v", err)
	}
	if n := l.Stats().Entries; n != 3 {
		t.Errorf("%d entries", n)
	}
	l.active.file = good
	bad.Close()
	l.observe(t, url(3), "3", false)
	wantFilled(t, l, 4)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wantFilled(t, reopen(t, dir), 4)
}
