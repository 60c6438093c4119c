package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"larder/admin"
	"larder/daemon"
	"larder/doctor"
	"larder/mitm"
	"larder/mitm/hello"
	"larder/policy"
)

type doctorFlags struct {
	store storeFlags
	json  bool
	clear bool
	since time.Duration
}

func newDoctor() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say which clients do not trust larder, and what to do about each",
		Long: `Say which clients do not trust larder, and what to do about each.

Asked is the larder of the state folder: "larder serve", or the background one of
"larder run". What it has seen since it was started is printed, the newest first.
Which program a client is, is told by how its TLS begins and by the User-Agent of
its CONNECT, and is likely rather than certain.

The exit code is 1 if a client has refused larder's certificate within --since, has
not trusted it for the same host after that, and is not tunnelled there by a rule with
on_distrust: tunnel; else 0.`,
		Example: `  larder doctor
  larder doctor --json | jq -r '.[].client'
  larder doctor --admin cache.example:3129 --since 1h`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.store.withStore(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				return f.run(ctx, c, cmd.OutOrStdout())
			})
		},
	}
	fl := cmd.Flags()
	f.store.register(fl)
	fl.BoolVar(&f.json, "json", false, "print the findings as a JSON list")
	fl.BoolVar(&f.clear, "clear", false, "forget all findings, once they are printed")
	fl.DurationVar(&f.since, "since", 24*time.Hour, "how far back findings count, and are printed")
	return cmd
}

func (f *doctorFlags) run(ctx context.Context, c *admin.Client, w io.Writer) error {
	all, err := c.Findings(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	recent := slices.DeleteFunc(all, func(d admin.Finding) bool { return now.Sub(d.Last) > f.since })
	if f.json {
		err = writeFindings(w, recent)
	} else {
		printFindings(w, recent, f.since)
	}
	if err == nil && f.clear {
		_, err = c.ClearFindings(ctx)
	}
	if err == nil && slices.ContainsFunc(recent, func(d admin.Finding) bool { return d.Mended.IsZero() && !now.Before(d.TunnelledUntil) }) {
		return &exitError{code: exitFailure}
	}
	return err
}

func writeFindings(w io.Writer, all []admin.Finding) error {
	if all == nil {
		all = []admin.Finding{}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(all)
}

// printFindings prints one paragraph for all hosts of a client for which the same is to
// be said.
func printFindings(w io.Writer, all []admin.Finding, since time.Duration) {
	if len(all) == 0 {
		fmt.Fprintf(w, "no client has refused larder's certificates in the last %s\n", spell(since))
		return
	}
	for i, group := range groups(all) {
		if i > 0 {
			fmt.Fprintln(w)
		}
		printGroup(w, group)
	}
}

// groups puts findings together that differ in the host alone, each where its newest is.
func groups(all []admin.Finding) [][]admin.Finding {
	type same struct {
		client, user, run, tool, reason, do, by string
		mended                                  bool
	}
	var found [][]admin.Finding
	at := make(map[same]int)
	for _, d := range all {
		k := same{d.Client, d.User, d.Run, d.Tool, d.Reason, d.Do, d.TunnelledBy, !d.Mended.IsZero()}
		i, ok := at[k]
		if !ok {
			i = len(found)
			at[k] = i
			found = append(found, nil)
		}
		found[i] = append(found[i], d)
	}
	return found
}

// shownHosts is how many hosts of a group are named.
const shownHosts = 5

func printGroup(w io.Writer, group []admin.Finding) {
	d := group[0]
	hosts := make([]string, 0, shownHosts)
	first, last, count := d.First, d.Last, int64(0)
	for _, g := range group {
		if len(hosts) < shownHosts {
			hosts = append(hosts, g.Host)
		}
		count += g.Count
		if g.First.Before(first) {
			first = g.First
		}
	}
	named := strings.Join(hosts, ", ")
	if more := len(group) - len(hosts); more > 0 {
		named += fmt.Sprintf(" and %s more", plural(int64(more), "host"))
	}
	does := "does not trust larder for"
	if d.Reason == mitm.ReasonIncompatible {
		does = "speaks no TLS that larder does, for"
	}
	fmt.Fprintf(w, "%s: %s %s %s\n", whoIs(d), d.Title, does, named)
	fmt.Fprintf(w, "  seen: %s, %s, %s\n", d.Reason, times(count), between(first, last))
	fmt.Fprintf(w, "  likely: %s, judged by %s\n", d.Tool, d.Basis)
	if d.UserAgent != "" {
		fmt.Fprintf(w, "  calls itself: %s\n", d.UserAgent)
	}
	if !d.Mended.IsZero() {
		fmt.Fprintf(w, "  mended: it has trusted larder at %s\n", clock(d.Mended))
		return
	}
	if time.Now().Before(d.TunnelledUntil) {
		fmt.Fprintf(w, "  tunnelled: until %s, by %s\n", clock(d.TunnelledUntil), d.TunnelledBy)
	}
	fmt.Fprintf(w, "  do: %s\n", d.Do)
	fmt.Fprintf(w, "  see: %s\n", d.See)
}

// whoIs names a client: its address, and its user or run.
func whoIs(d admin.Finding) string {
	switch {
	case d.Run != "":
		return fmt.Sprintf("larder run %s", d.Run)
	case d.User != "":
		return fmt.Sprintf("%s (%s)", d.Client, d.User)
	}
	return d.Client
}

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func between(first, last time.Time) string {
	if clock(first) == clock(last) {
		return "at " + clock(last)
	}
	return fmt.Sprintf("from %s to %s", clock(first), clock(last))
}

func clock(t time.Time) string { return t.Local().Format(time.DateTime) }

// spell writes a duration without the zeros of Go's.
func spell(d time.Duration) string {
	s := d.String()
	for _, zeros := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zeros) {
			s = s[:len(s)-2]
		}
	}
	return s
}

// printDistrust is the one line of a run whose clients did not trust larder.
func printDistrust(w io.Writer, list iter.Seq2[daemon.Exchange, error]) {
	var first *daemon.Exchange
	hosts := make(map[string]bool)
	for e, err := range list {
		if err != nil {
			break // what was read so far is said
		}
		if e.Distrust == "" || e.Class != mitm.ClassError {
			continue
		}
		if first == nil {
			first = &e
		}
		hosts[e.URL] = true
	}
	if first == nil {
		return
	}
	host, _, err := net.SplitHostPort(first.URL)
	if err != nil {
		host = first.URL
	}
	if more := len(hosts) - 1; more > 0 {
		host += fmt.Sprintf(" and %s more", plural(int64(more), "host"))
	}
	fmt.Fprintf(w, "larder: hint: %s does not trust larder for %s: %s; 'larder doctor' says more\n",
		hello.Title(first.Tool), host, doctor.ForTool(first.Tool))
}

// distrusts gives the doctor what the wire has found out.
type distrusts struct{ book *doctor.Book }

func (d distrusts) Distrusted(x mitm.Distrust) { d.book.Distrusted(doctor.Distrust(x)) }
func (d distrusts) Tunnelled(x mitm.Distrust)  { d.book.Tunnelled(doctor.Distrust(x)) }
func (d distrusts) Trusted(x mitm.Distrust)    { d.book.Trusted(doctor.Distrust(x)) }

// diagnoses gives the admin listener what the doctor knows.
type diagnoses struct{ book *doctor.Book }

func (d diagnoses) Findings() []admin.Finding {
	all := d.book.Findings()
	shown := make([]admin.Finding, len(all))
	for i, f := range all {
		shown[i] = admin.Finding{
			Client: f.Client.String(), User: f.User, Run: f.Run, Host: f.Host,
			Tool: f.Tool, Title: f.Title, Basis: f.Basis, JA4: f.JA4, UserAgent: f.UserAgent,
			Reason: f.Reason, Count: f.Count, First: f.First.UTC(), Last: f.Last.UTC(),
			Mended: f.Mended, Elsewhere: f.Elsewhere, Pinned: f.Pinned, TunnelledUntil: f.Until, TunnelledBy: f.By, Do: f.Do, See: f.See,
		}
	}
	return shown
}

func (d diagnoses) Clear() int { return d.book.Clear() }

// selfAnswers is what larder answers when it is asked itself: the kit as an origin, and
// the doctor to those who come through the proxy.
type selfAnswers struct {
	kit  http.Handler
	page *doctor.Page
}

func (s selfAnswers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !mitm.ReachOf(r).Proxied {
		s.kit.ServeHTTP(w, r)
		return
	}
	if r.URL.Path == doctorPath && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		s.page.ServeHTTP(w, r)
		return
	}
	http.Error(w, "larder: there is only "+doctorPath+" here; the rest is at http://HOST:PORT/ of the proxy itself", http.StatusNotFound)
}

const doctorPath = "/doctor"

// doctorPage tells clients whether they reach larder as they should.
func (n *node) doctorPage(name string) *doctor.Page {
	return &doctor.Page{
		Name: name,
		Book: n.doctor,
		Reach: func(r *http.Request) (proxied, tls bool) {
			reach := mitm.ReachOf(r)
			return reach.Proxied, reach.TLS
		},
	}
}

// ownName is the host that is larder itself, "" where it has nothing to say.
func ownName(s policy.Settings) string {
	if !s.Kit.Enabled {
		return ""
	}
	return s.Kit.Name
}
