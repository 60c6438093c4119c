package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLogOfARunningDaemonIsTrimmed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "daemon.log")
	log, start, err := openLog(path)
	if err != nil || start != 0 {
		t.Fatal(start, err)
	}
	defer log.Close()
	if _, err := log.Write(bytes.Repeat([]byte("0123456789"), 30)); err != nil {
		t.Fatal(err)
	}
	if err := trimLog(path, log, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := log.WriteString("after\n"); err != nil {
		t.Fatal(err)
	}
	now, err := os.ReadFile(path)
	if err != nil || string(now) != "after\n" {
		t.Errorf("log is %q, %v; want what was written after", now, err)
	}
	before, err := os.ReadFile(path + ".1")
	if err != nil || len(before) != 100 {
		t.Errorf("%d bytes moved aside, %v; want the last 100", len(before), err)
	}
	if got := logTail(path, 300); !cmp.Equal(got, []string{"after"}) {
		t.Errorf("tail of a log that was trimmed since: %q", got)
	}
}

func TestLogOfSomebodyElseIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "daemon.log")
	text := bytes.Repeat([]byte("x"), 200)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	mine, err := os.Create(filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	if err := trimLog(path, mine, 100); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, text) {
		t.Errorf("trimmed to %d bytes, %v", len(got), err)
	}
}

func TestLongLogMovesAsideAtTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "daemon.log")
	if err := os.WriteFile(path, make([]byte, maxLog+1), 0o600); err != nil {
		t.Fatal(err)
	}
	log, start, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	log.Close()
	if start != 0 {
		t.Errorf("the new log begins at %d", start)
	}
	if fi, err := os.Stat(path + ".1"); err != nil || fi.Size() != maxLog+1 {
		t.Errorf("the old log: %v, %v", fi, err)
	}
}

func TestLogTailIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "daemon.log")
	if err := os.WriteFile(path, bytes.Repeat([]byte("a line\n\n"), 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := logTail(path, 0); len(got) != tailLog/8 || got[0] != "a line" {
		t.Errorf("%d lines, %q first", len(got), got[0])
	}
	if got := logTail(path+"-missing", 0); got != nil {
		t.Errorf("of no log: %q", got)
	}
}
