package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Fixture is a file: what one client did.
type Fixture struct {
	Client  string `json:"client"`
	Version string `json:"version"`
	// UserAgent is that of the CONNECT request, "" if it had none.
	UserAgent string `json:"connect_user_agent,omitempty"`
	// Ending is what came after the certificate: "alert" and its name, "closed" or
	// "reset", behind "after the handshake: " where the client had finished that.
	Ending string `json:"ending"`
	TLS    string `json:"tls,omitempty"`
	ALPN   string `json:"alpn,omitempty"`
	// Connections is how often the client tried.
	Connections int `json:"connections"`
	// Hello is the first flight, records and all.
	Hello []byte `json:"hello"`
}

// clientTime is how long a client may take.
const clientTime = 90 * time.Second

func main() {
	out := flag.String("out", "", "`folder` for the fixtures (default: print what was seen)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "hellos:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out string, only []string) error {
	dir, err := os.MkdirTemp("", "hellos")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var failed []string
	for _, c := range clients() {
		if len(only) > 0 && !slices.Contains(only, c.name) {
			continue
		}
		if _, err := exec.LookPath(c.needs); err != nil {
			fmt.Printf("%-18s not installed\n", c.name)
			continue
		}
		f, err := record(ctx, c, filepath.Join(dir, c.name))
		if err != nil {
			fmt.Printf("%-18s %v\n", c.name, err)
			failed = append(failed, c.name)
			continue
		}
		fmt.Printf("%-18s %-8s %-9s %-2d %-45s %q\n", c.name, f.TLS, f.ALPN, f.Connections, f.Ending, f.UserAgent)
		if out != "" {
			err = write(filepath.Join(out, c.name+".json"), f)
		}
		if err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("nothing was seen of %s", strings.Join(failed, ", "))
	}
	return nil
}

// record runs a client against a proxy of its own.
func record(ctx context.Context, c client, dir string) (Fixture, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Fixture{}, err
	}
	p, err := newProxy()
	if err != nil {
		return Fixture{}, err
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(ctx, clientTime)
	defer cancel()
	argv, err := c.command(dir, p.address())
	if err != nil {
		return Fixture{}, err
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(environment(dir, p.address()), c.env...)
	cmd.WaitDelay = 5 * time.Second
	text, runErr := cmd.CombinedOutput() // it is meant to fail
	seen := p.seen()
	if len(seen) == 0 {
		return Fixture{}, fmt.Errorf("no connection: %w\n%s", errors.Join(runErr, ctx.Err()), text)
	}
	f := seen[0]
	f.Client, f.Version, f.Connections = c.name, version(ctx, c), len(seen)
	return f, nil
}

// version is the first line with a number of what a client says of itself.
func version(ctx context.Context, c client) string {
	cmd := exec.CommandContext(ctx, c.needs, c.version...)
	cmd.Env = append(os.Environ(), c.env...)
	text, _ := cmd.CombinedOutput() // "" is as good as any
	escapes := regexp.MustCompile("\x1b\\[[0-9;]*m")
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(escapes.ReplaceAllString(line, ""), " from /") // where it is installed is no matter
		if line = strings.TrimSpace(line); strings.ContainsAny(line, "0123456789") && !strings.Contains(line, ": ") {
			return line // and no complaint of a wrapper's
		}
	}
	return ""
}

// environment holds nothing of the caller's but where programs are.
func environment(home, proxy string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8", "TMPDIR=" + os.TempDir()}
	for _, name := range []string{"http_proxy", "https_proxy", "HTTPS_PROXY"} {
		env = append(env, name+"=http://"+proxy)
	}
	for _, name := range []string{"PYTHONPATH", "NODE_PATH"} { // where their libraries are
		if path := os.Getenv(name); path != "" {
			env = append(env, name+"="+path)
		}
	}
	user, err := os.UserHomeDir()
	if err != nil {
		return env
	}
	for name, folder := range map[string]string{"RUSTUP_HOME": ".rustup", "PYENV_ROOT": ".pyenv"} {
		if _, err := os.Stat(filepath.Join(user, folder)); err == nil {
			env = append(env, name+"="+filepath.Join(user, folder))
		}
	}
	return env
}

func write(path string, f Fixture) error {
	text, err := json.MarshalIndent(f, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
