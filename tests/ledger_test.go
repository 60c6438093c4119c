package tests

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"larder/tests/origin"
)

// larderCommand runs a larder command with this instance's state and configuration.
func (in *instance) larderCommand(t testing.TB, args ...string) result {
	t.Helper()
	argv := append([]string{in.larder}, args...)
	return command{dir: in.dir, argv: append(argv, "--state", in.state, "--config", in.config)}.run(t)
}

func (in *instance) mustLarder(t testing.TB, args ...string) string {
	t.Helper()
	res := in.larderCommand(t, args...)
	if res.code != 0 {
		t.Fatalf("larder %v: %v", args, res)
	}
	return res.stdout
}

// TestChangedArtifactIsRefused: an origin changes what never changes. Larder has nothing
// stored of it any more, and was started again since, and refuses it all the same, until
// an operator accepts it.
func TestChangedArtifactIsRefused(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	in := newInstance(t, origins, artifactRules)
	target := artifactURL("/releases/1000/tool.tar")

	s := in.serve(t)
	res, first := get(t, s.client(t), target)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("first: %s", res.Status)
	}
	in.mustLarder(t, "store", "rm", "--match", "**")
	before := filepath.Join(in.dir, "before.jsonl")
	in.mustLarder(t, "ledger", "export", "--output", before)
	s.signal(t, syscall.SIGTERM)
	if code := s.wait(t); code != 0 {
		t.Fatalf("larder ended with %d", code)
	}

	origins.Tamper(func(origin.Exchange) bool { return true })
	s = in.serve(t)
	res, body := get(t, s.client(t), target)
	if res.StatusCode != http.StatusBadGateway || !strings.Contains(string(body), "larder ledger accept") {
		t.Errorf("after the change: %s, %s", res.Status, body)
	}
	if found := in.stat(t, target); found != "" {
		t.Errorf("the changed artifact is stored:\n%s", found)
	}
	if n := s.metric(t, `larder_cache_ledger_total{result="refused"}`); n != 1 {
		t.Errorf("%d refusals were counted", n)
	}
	s.waitLog(t, func(l logLine) bool {
		return l.Level == "ERROR" && strings.Contains(l.raw, "the ledger has another digest") && strings.Contains(l.raw, `"first":"sha256:`) && strings.Contains(l.raw, `"now":"sha256:`)
	})
	if events := s.ledgerEvents(t); len(events) != 1 || events[0].Kind != "changed" || !events[0].Refused || events[0].URL != target {
		t.Errorf("events: %+v", events)
	}
	if out := in.mustLarder(t, "ledger", "events"); !strings.Contains(out, "refused") || !strings.Contains(out, target) {
		t.Errorf("larder ledger events: %s", out)
	}
	if res, again := get(t, s.client(t), target); res.StatusCode != http.StatusBadGateway {
		t.Errorf("asked once more: %s, %d bytes", res.Status, len(again))
	}

	in.mustLarder(t, "ledger", "accept", target)
	res, second := get(t, s.client(t), target)
	if res.StatusCode != http.StatusOK || string(second) == string(first) {
		t.Errorf("after it was accepted: %s", res.Status)
	}
	if out := in.mustLarder(t, "ledger", "show", target); strings.Count(out, "\n") != 3 {
		t.Errorf("larder ledger show:\n%s", out)
	}
	after := filepath.Join(in.dir, "after.jsonl")
	in.mustLarder(t, "ledger", "export", "--output", after)
	if out := in.mustLarder(t, "ledger", "verify", "--export", after, "--earlier", before); !strings.Contains(out, "3 entries") || !strings.Contains(out, "in continuation") {
		t.Errorf("larder ledger verify: %s", out)
	}
	// The other way round it is none.
	if res := in.larderCommand(t, "ledger", "verify", "--export", before, "--earlier", after); res.code == 0 || !strings.Contains(res.stderr, "not a continuation") {
		t.Errorf("larder ledger verify of an older export: %v", res)
	}
	if out := in.mustLarder(t, "ledger", "verify"); !strings.Contains(out, "3 entries") {
		t.Errorf("larder ledger verify: %s", out)
	}
}

// TestChangedArtifactIsReportedByRule: a rule may only warn.
func TestChangedArtifactIsReportedByRule(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	in := newInstance(t, origins, strings.Replace(artifactRules, "action: immutable", "action: immutable\n    ledger: warn", 1))
	s := in.serve(t)
	target := artifactURL("/releases/1000/tool.tar")
	_, first := get(t, s.client(t), target)
	in.mustLarder(t, "store", "rm", "--match", "**")
	origins.Tamper(func(origin.Exchange) bool { return true })
	res, second := get(t, s.client(t), target)
	if res.StatusCode != http.StatusOK || string(first) == string(second) {
		t.Errorf("after the change: %s", res.Status)
	}
	s.waitLog(t, func(l logLine) bool {
		return l.Level == "WARN" && strings.Contains(l.raw, "the ledger has another digest")
	})
	if events := s.ledgerEvents(t); len(events) != 1 || events[0].Refused {
		t.Errorf("events: %+v", events)
	}
	if n := s.metric(t, `larder_cache_ledger_total{result="warned"}`); n != 1 {
		t.Errorf("%d warnings were counted", n)
	}
}

// TestLedgerIsAcceptedWithoutALarder: accept works on the state folder when nothing runs.
func TestLedgerIsAcceptedWithoutALarder(t *testing.T) {
	t.Parallel()
	origins := startOrigins(t)
	origin.ServeArtifacts(origins, artifactsHost)
	in := newInstance(t, origins, artifactRules)
	s := in.serve(t)
	target := artifactURL("/releases/1000/tool.tar?build=secret")
	get(t, s.client(t), target)
	s.signal(t, syscall.SIGTERM)
	s.wait(t)
	if res := in.larderCommand(t, "ledger", "accept", target); res.code == 0 || !strings.Contains(res.stderr, "nothing else") {
		t.Errorf("accept without a change: %v", res)
	}
	in.mustLarder(t, "ledger", "accept", target, "--sha256", strings.Repeat("ab", 32))
	shown := in.mustLarder(t, "ledger", "show", target)
	if !strings.Contains(shown, strings.Repeat("ab", 32)) || strings.Contains(shown, "secret") {
		t.Errorf("larder ledger show:\n%s", shown)
	}
	if export := in.mustLarder(t, "ledger", "export", "--since", "1h"); strings.Contains(export, "secret") || !strings.Contains(export, "hmac-sha256=") {
		t.Errorf("larder ledger export:\n%s", export)
	}
	if checkpoint := in.mustLarder(t, "ledger", "checkpoint"); !strings.HasPrefix(checkpoint, "larder-ledger-") || !strings.Contains(checkpoint, "\n2\n") {
		t.Errorf("larder ledger checkpoint:\n%s", checkpoint)
	}
}

// ledgerEvent is an entry of GET /api/v1/ledger/events.
type ledgerEvent struct {
	Kind    string `json:"kind"`
	URL     string `json:"url"`
	Refused bool   `json:"refused"`
}

// ledgerEvents asks the admin listener, with the token of the state folder.
func (s *service) ledgerEvents(t *testing.T) []ledgerEvent {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+s.admin+"/api/v1/ledger/events", nil)
	must(t, err)
	if res, err := http.DefaultClient.Do(req); err != nil || res.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the token: %v, %v", res, err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(readFile(t, filepath.Join(s.state, "run", "admin.token"))))
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	defer res.Body.Close()
	var events []ledgerEvent
	must(t, json.NewDecoder(res.Body).Decode(&events))
	return events
}
