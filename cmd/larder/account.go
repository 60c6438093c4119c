package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"larder/daemon"
	"larder/mitm"
)

// summaryLine is what a run says at its end.
func summaryLine(s daemon.Summary) string {
	parts := []string{
		plural(s.Requests, "request"),
		plural(s.Hits, "hit"),
		size(s.CacheBytes) + " from cache",
		size(s.UpstreamBytes) + " from upstream",
	}
	if s.TunnelBytes > 0 {
		parts = append(parts, size(s.TunnelBytes)+" tunnelled")
	}
	if s.Denied > 0 {
		parts = append(parts, fmt.Sprintf("%d denied", s.Denied))
	}
	if s.Errors > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", s.Errors))
	}
	return strings.Join(parts, ", ")
}

// maxFailures is how many different failures a run prints; --json has them all.
const maxFailures = 3

// printFailures says why requests failed or were denied. Most clients print the
// status of a CONNECT at best, and never its body.
func printFailures(w io.Writer, list iter.Seq2[daemon.Exchange, error]) {
	seen := make(map[string]bool)
	for e, err := range list {
		if err != nil {
			return // the summary that follows is all there is to say
		}
		if e.Class != mitm.ClassError && e.Class != mitm.ClassDeny {
			continue
		}
		why := cmp.Or(e.Err, "denied")
		if e.Class == mitm.ClassDeny && e.Rule != "" {
			why = fmt.Sprintf("denied by rule %q", e.Rule)
		}
		line := fmt.Sprintf("larder: %s %s: %s", e.Method, e.URL, why)
		if seen[line] {
			continue
		}
		if len(seen) == maxFailures {
			fmt.Fprintln(w, "larder: and more: --json FILE lists them")
			return
		}
		seen[line] = true
		fmt.Fprintln(w, line)
	}
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// size prints bytes in powers of 1024, as the policy file reads them.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1024, 0
	for v >= 1023.95 && unit < len(units)-1 {
		v /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", v, units[unit])
}

// fetched is one entry of the list that --json writes. Its names are part of
// larder's interface.
type fetched struct {
	Method        string `json:"method"`
	URL           string `json:"url"`
	Status        int    `json:"status"`
	Class         string `json:"class"`
	Bytes         int64  `json:"bytes"`
	CacheBytes    int64  `json:"cache_bytes"`
	UpstreamBytes int64  `json:"upstream_bytes"`
	SHA256        string `json:"sha256,omitempty"`
	Verified      string `json:"verified,omitempty"`
	CacheStatus   string `json:"cache_status,omitempty"`
	Rule          string `json:"rule,omitempty"`
	Distrust      string `json:"distrust,omitempty"`
	Tool          string `json:"tool,omitempty"`
	Error         string `json:"error,omitempty"`
}

// writeFetched writes the list as a JSON array, one line an entry, however long
// it is: nothing of it is held in memory.
func writeFetched(path string, list iter.Seq2[daemon.Exchange, error]) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return withHint(fmt.Errorf("write the list of what was fetched: %w", err), "choose another file with --json")
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	separator := "[\n"
	for e, err := range list {
		if err != nil {
			return fmt.Errorf("read the list of what was fetched: %w", err)
		}
		line, err := json.Marshal(fetched{
			Method: e.Method, URL: e.URL, Status: e.Status, Class: e.Class,
			Bytes: e.Bytes, CacheBytes: e.CacheBytes, UpstreamBytes: e.UpstreamBytes,
			SHA256: e.SHA256, Verified: e.Verified, CacheStatus: e.CacheStatus, Rule: e.Rule, Distrust: e.Distrust, Tool: e.Tool, Error: e.Err,
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s%s", separator, line)
		separator = ",\n"
	}
	if separator == "[\n" {
		fmt.Fprint(w, "[")
	}
	fmt.Fprint(w, "\n]\n")
	return w.Flush()
}
