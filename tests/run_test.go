package tests

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"larder/tests/origin"
)

// TestRunPassesExitCodes runs commands that fail in the ways commands do.
func TestRunPassesExitCodes(t *testing.T) {
	t.Parallel()
	in := newInstance(t, startOrigins(t), "")
	in.endDaemon(t)
	notExecutable := writeFile(t, in.dir, "script", "no program")
	for _, c := range []struct {
		name string
		argv []string
		code int
	}{
		{"success", []string{"true"}, 0},
		{"failure", []string{"sh", "-c", "exit 37"}, 37},
		{"death by signal", []string{"sh", "-c", "kill -KILL $$"}, 128 + 9},
		{"no such command", []string{"larder-test-no-such-command"}, 127},
		{"no program", []string{notExecutable}, 126},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := command{dir: in.dir, argv: append(in.runArgs(), c.argv...)}.run(t)
			if res.code != c.code {
				t.Errorf("exit code %d, want %d: %v", res.code, c.code, res)
			}
		})
	}
}

// TestRunPassesStreams sends bytes in and wants them out, and nothing else on
// standard output.
func TestRunPassesStreams(t *testing.T) {
	t.Parallel()
	in := newInstance(t, startOrigins(t), "")
	in.endDaemon(t)
	input := string(readAll(t, origin.NewContent("stdin", 1<<20)))
	res := command{
		dir:   in.dir,
		argv:  append(in.runArgs(), "sh", "-c", "cat; echo complaint >&2"),
		stdin: input,
	}.run(t)
	if res.stdout != input {
		t.Errorf("standard output has %d bytes, want the %d of standard input unchanged", len(res.stdout), len(input))
	}
	if !strings.HasPrefix(res.stderr, "complaint\n") {
		t.Errorf("standard error begins with %q", res.stderr)
	}
}

// TestRunPassesSignals sends SIGTERM to "larder run"; the command answers it.
func TestRunPassesSignals(t *testing.T) {
	t.Parallel()
	in := newInstance(t, startOrigins(t), "")
	in.endDaemon(t)
	script := `trap 'echo caught; exit 42' TERM; echo ready; while :; do sleep 0.05; done`
	argv := append(in.runArgs(), "sh", "-c", script)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = in.dir, hermetic(in.dir)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewReader(stdout)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		t.Fatalf("command said %q (%v)", line, err)
	}
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if line, err := lines.ReadString('\n'); line != "caught\n" {
		t.Errorf("command said %q (%v) at SIGTERM", line, err)
	}
	_ = cmd.Wait() // the exit code is looked at below
	if code := cmd.ProcessState.ExitCode(); code != 42 {
		t.Errorf("exit code %d, want the command's 42", code)
	}
}

// TestRunsShareOneFill holds back the second half of an object until two runs
// have both been fed the first.
func TestRunsShareOneFill(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl")
	const size = 8 << 20
	origins := startOrigins(t)
	artifacts := origin.ServeArtifacts(origins, artifactsHost)
	in := newInstance(t, origins, artifactRules)
	in.endDaemon(t)
	target := artifactURL("/gated/%d/shared.tar", size)
	want := origin.Sum256("shared.tar", size)

	files := []string{filepath.Join(in.dir, "a"), filepath.Join(in.dir, "b")}
	var both sync.WaitGroup
	for _, file := range files {
		both.Go(func() {
			// Not run: a failure here must not end the test from another goroutine.
			argv := append(in.runArgs(), "curl", "-fsS", "--no-buffer", "-o", file, target)
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Dir, cmd.Env = in.dir, hermetic(in.dir)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("larder run: %v\n%s", err, out)
			}
		})
	}
	fed := eventually(func() bool {
		for _, file := range files {
			if info, err := os.Stat(file); err != nil || info.Size() < size/4 {
				return false
			}
		}
		return true
	}, nil)
	artifacts.Open("shared.tar")
	both.Wait()
	if !fed {
		t.Errorf("both runs were not fed while the fill ran")
	}
	for _, file := range files {
		if got := fileSum(t, file); got != hex.EncodeToString(want[:]) {
			t.Errorf("SHA-256 %s, want %x", got, want)
		}
	}
	if n := len(origins.Exchanges(nil)); n != 1 {
		t.Errorf("%d requests upstream, want 1:\n%s", n, exchangeList(origins))
	}
}

// TestRunsShareOneDaemon starts eight runs at once on a fresh state folder.
func TestRunsShareOneDaemon(t *testing.T) {
	t.Parallel()
	in := newInstance(t, startOrigins(t), "")
	in.endDaemon(t)
	const runs = 8
	pids := make([]int, runs)
	var all sync.WaitGroup
	for i := range pids {
		all.Go(func() {
			// The command waits until the daemon's lock is signed, which it is long before.
			argv := append(in.runArgs(), "true")
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Dir, cmd.Env = in.dir, hermetic(in.dir)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("larder run: %v\n%s", err, out)
			}
			pids[i] = in.daemonPID()
		})
	}
	all.Wait()
	for _, pid := range pids {
		if pid == 0 || pid != pids[0] {
			t.Errorf("daemons were %v, want one", pids)
			break
		}
	}
}

// TestCrashedDaemonIsReplaced kills the daemon between two runs, and in another
// round the socket and lock that it leaves behind are what the next one finds.
func TestCrashedDaemonIsReplaced(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl")
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	in := newInstance(t, origins, artifactRules)
	in.endDaemon(t)
	fetchOnce := func() runResult {
		t.Helper()
		res := in.run(t, command{dir: in.dir, argv: []string{"curl", "-fsS", "-o", "tool.tar", artifactURL("/releases/1000000/tool.tar")}})
		if res.code != 0 {
			t.Fatalf("run failed: %v", res)
		}
		return res
	}
	fetchOnce()
	first := in.daemonPID()
	if first == 0 {
		t.Fatal("no background larder after a run")
	}
	must(t, syscall.Kill(first, syscall.SIGKILL))
	if !eventually(func() bool { return !in.isLarder(first) }, nil) {
		t.Fatal("background larder outlives SIGKILL")
	}
	origins.Forget()
	res := fetchOnce()
	if second := in.daemonPID(); second == 0 || second == first {
		t.Errorf("daemon is %d after %d was killed", second, first)
	}
	if n := len(origins.Exchanges(nil)); n != 0 {
		t.Errorf("what was stored before the crash was fetched again (%d requests)", n)
	}
	if len(res.fetched) != 1 || !res.fetched[0].hit() {
		t.Errorf("run after the crash had %+v, want one hit", res.fetched)
	}
}

// TestDaemonCrashDuringRun kills the daemon under a command that does not need
// it any more: the command's end is still its own, and nothing hangs.
func TestDaemonCrashDuringRun(t *testing.T) {
	t.Parallel()
	in := newInstance(t, startOrigins(t), "")
	in.endDaemon(t)
	argv := append(in.runArgs(), "sh", "-c", "echo ready; read line; exit 5")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = in.dir, hermetic(in.dir)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("command said %q (%v)", line, err)
	}
	pid := in.daemonPID()
	if pid == 0 {
		t.Fatal("no background larder during a run")
	}
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	_, err = stdin.Write([]byte("go on\n"))
	must(t, err)
	_ = cmd.Wait() // the exit code is looked at below
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("exit code %d, want the command's 5; stderr:\n%s", code, &stderr)
	}
	if !strings.Contains(stderr.String(), "larder: error: ") {
		t.Errorf("nothing says that the background larder died:\n%s", &stderr)
	}
}

// TestDaemonEndsWhenIdle uses a short --idle and waits for the process to go.
func TestDaemonEndsWhenIdle(t *testing.T) {
	t.Parallel()
	in := newInstance(t, startOrigins(t), "")
	in.endDaemon(t)
	res := command{
		dir:  in.dir,
		argv: []string{in.larder, "run", "--state", in.state, "--config", in.config, "--idle", "1s", "--", "true"},
	}.run(t)
	if res.code != 0 {
		t.Fatalf("run failed: %v", res)
	}
	if !eventually(func() bool { return in.daemonPID() == 0 }, nil) {
		t.Errorf("the background larder has not ended")
	}
}

// TestRunLists looks at every field of the list that --json writes, and at the
// summary line, for one artifact fetched cold and then hot.
func TestRunLists(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl")
	const size = 1 << 20
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	in := newInstance(t, origins, artifactRules)
	in.endDaemon(t)
	target := artifactURL("/releases/%d/tool.tar", size)
	sum := origin.Sum256("tool.tar", size)
	for i, summary := range []string{
		"larder: 1 request, 0 hits, 0 B from cache, 1.0 MiB from upstream",
		"larder: 1 request, 1 hit, 1.0 MiB from cache, 0 B from upstream",
	} {
		// Over HTTP/2 curl hangs up at the last byte it was promised.
		res := in.run(t, command{dir: in.dir, argv: []string{"curl", "-fsS", "-o", os.DevNull, target}})
		if got := strings.TrimSpace(res.stderr); got != summary {
			t.Errorf("run %d: stderr is %q, want %q", i, got, summary)
		}
		if len(res.fetched) != 1 {
			t.Fatalf("run %d: list is %+v, want one entry", i, res.fetched)
		}
		got := res.fetched[0]
		if got.Method != "GET" || got.URL != target || got.Status != 200 || got.Bytes != size ||
			got.SHA256 != hex.EncodeToString(sum[:]) || got.hit() != (i == 1) || !strings.HasPrefix(got.CacheStatus, "larder") {
			t.Errorf("run %d: entry is %+v", i, got)
		}
	}
}

// TestRunOffline: what is stored is served, nothing else is asked for, and a run
// beside it that is not offline fetches as ever.
func TestRunOffline(t *testing.T) {
	t.Parallel()
	requireClient(t, "curl")
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	in := newInstance(t, origins, artifactRules)
	in.endDaemon(t)
	stored, missing := artifactURL("/releases/1000/stored.tar"), artifactURL("/releases/1000/missing.tar")
	fetch := func(target string, flags ...string) result {
		argv := append(in.runArgs(flags...), "curl", "-sS", "-o", os.DevNull, "-w", "%{http_code}", target)
		return command{dir: in.dir, argv: argv}.run(t)
	}
	for i, c := range []struct {
		target, status string
		flags          []string
		asked          int
	}{
		{stored, "200", nil, 1},
		{stored, "200", []string{"--offline"}, 1},
		{missing, "504", []string{"--offline"}, 1},
		{missing, "200", nil, 2},
	} {
		res := fetch(c.target, c.flags...)
		if res.code != 0 || res.stdout != c.status {
			t.Errorf("fetch %d: want %s: %v", i, c.status, res)
		}
		if n := len(origins.Exchanges(nil)); n != c.asked {
			t.Errorf("fetch %d: %d requests upstream, want %d", i, n, c.asked)
		}
	}
}

// TestRunEnvironment compares the command's environment with the caller's: what
// clients read is set, and the CA that the caller trusts is in the bundle.
func TestRunEnvironment(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	in := newInstance(t, origins, "")
	in.endDaemon(t)
	corporate, err := origin.NewAuthority()
	must(t, err)
	own := writeFile(t, in.dir, "corporate.pem", string(corporate.PEM()))
	// A caller's own bundle lasts as long as the run.
	kept := filepath.Join(in.dir, "kept.pem")
	res := command{
		dir:  in.dir,
		argv: append(in.runArgs(), "sh", "-c", `cp "$SSL_CERT_FILE" "$0" && exec env`, kept),
		env:  []string{"SSL_CERT_FILE=" + own, "NO_PROXY=.corp.test", "JAVA_TOOL_OPTIONS=-Xmx64m", "KEPT=as it was"},
	}.run(t)
	vars := make(map[string]string)
	for line := range strings.Lines(res.stdout) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		vars[name] = value
	}
	for _, name := range []string{"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "YARN_HTTPS_PROXY"} {
		if !strings.HasPrefix(vars[name], "http://127.0.0.1:") {
			t.Errorf("%s=%s, want a proxy on loopback", name, vars[name])
		}
	}
	if vars["KEPT"] != "as it was" {
		t.Errorf("a variable of the caller is lost: KEPT=%s", vars["KEPT"])
	}
	for _, name := range []string{"no_proxy", "NO_PROXY"} {
		if !strings.Contains(vars[name], ".corp.test") || !strings.Contains(vars[name], "127.0.0.1") {
			t.Errorf("%s=%s, want the caller's and loopback", name, vars[name])
		}
	}
	if opts := vars["JAVA_TOOL_OPTIONS"]; !strings.Contains(opts, "-Xmx64m") || !strings.Contains(opts, "trustStore=") || !strings.Contains(opts, "https.proxyPort=") {
		t.Errorf("JAVA_TOOL_OPTIONS=%s", opts)
	}
	for _, name := range []string{
		"SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO", "CARGO_HTTP_CAINFO", "npm_config_cafile",
	} {
		if vars[name] != vars["SSL_CERT_FILE"] {
			t.Errorf("%s=%s, want %s", name, vars[name], vars["SSL_CERT_FILE"])
		}
		bundle := readFile(t, kept)
		for what, pem := range map[string]string{
			"the caller's own CA": string(corporate.PEM()),
			"larder's root":       readFile(t, filepath.Join(in.state, "trust", "ca.pem")),
		} {
			if !strings.Contains(bundle, strings.TrimSpace(pem)) {
				t.Errorf("%s=%s lacks %s", name, vars[name], what)
			}
		}
	}
	if strings.Contains(res.stdout, "\x00") {
		t.Error("environment holds a NUL")
	}
}

// TestRunListIsJSON reads the list of a run that fetched nothing.
func TestRunListIsJSON(t *testing.T) {
	t.Parallel()
	in := newInstance(t, startOrigins(t), "")
	in.endDaemon(t)
	list := filepath.Join(in.dir, "list.json")
	if res := (command{dir: in.dir, argv: append(in.runArgs("--json", list), "true")}).run(t); res.code != 0 {
		t.Fatalf("run failed: %v", res)
	}
	if entries := readFetched(t, list); entries == nil || len(entries) != 0 {
		t.Errorf("list is %v, want []", entries)
	}
}
