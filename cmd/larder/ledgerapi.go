package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"larder/admin"
	"larder/cache"
	"larder/ledger"
)

// openLedger opens the ledger. Without it larder goes on, and says so: a fleet's builds
// are worth more than its memory, and nothing that was written is lost.
func (n *node) openLedger(maxSize int64) *ledger.Ledger {
	l, err := ledger.Open(ledger.Options{Dir: n.paths.Ledger(), MaxSize: maxSize, Logger: n.logger})
	if err != nil {
		n.logger.Error("larder goes on without its ledger: what was first seen is neither held to nor written down", "err", err)
	} else {
		n.closers = append(n.closers, l)
	}
	n.registry.MustRegister(ledgerGauges(l)...)
	return l
}

// ledgerGauges are the figures of a ledger, which is nil where there is none.
func ledgerGauges(l *ledger.Ledger) []prometheus.Collector {
	gauge := func(name, help string, value func(ledger.Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			if l == nil {
				return 0
			}
			return value(l.Stats())
		})
	}
	return []prometheus.Collector{
		gauge("larder_ledger_up", "Whether the ledger is held to and written to (1), or not (0).", func(s ledger.Stats) float64 {
			if s.Err != nil {
				return 0
			}
			return 1
		}),
		gauge("larder_ledger_entries", "Entries of the ledger.", func(s ledger.Stats) float64 { return float64(s.Entries) }),
		gauge("larder_ledger_bytes", "Bytes that the ledger takes on disk, indexes excepted.", func(s ledger.Stats) float64 { return float64(s.Bytes) }),
		gauge("larder_ledger_max_bytes", "Bytes that the ledger may take; beyond, new URLs are not written down.", func(s ledger.Stats) float64 { return float64(s.MaxBytes) }),
	}
}

// ledgerCheck warns of a ledger that is not held to or written to.
func (n *node) ledgerCheck() admin.Check {
	return admin.Check{
		Name: "ledger", Advisory: true,
		Ready: func(context.Context) error {
			if n.ledger == nil {
				return errors.New("the ledger could not be opened: larder's log says why")
			}
			return n.ledger.Stats().Err
		},
	}
}

// ledgerAPI is the node's side of the ledger API, nil without a ledger.
func (n *node) ledgerAPI() admin.Ledger {
	if n.ledger == nil {
		return nil
	}
	return &ledgerAPI{ledger: n.ledger, rule: n.proxy.RuleFor}
}

// ledgerAPI takes URLs as people have them.
type ledgerAPI struct {
	ledger *ledger.Ledger
	rule   func(*url.URL) *cache.Rule
}

func (a *ledgerAPI) Events(limit int) ([]admin.LedgerEntry, error) {
	entries, err := a.ledger.Events(limit)
	return shownEntries(entries), err
}

func (a *ledgerAPI) History(raw string) ([]admin.LedgerEntry, error) {
	_, entries, err := a.history(raw)
	return shownEntries(entries), err
}

// history finds the entries of a URL: as the ledger spells it, or as clients do.
func (a *ledgerAPI) history(raw string) (name string, entries []ledger.Entry, err error) {
	entries, err = a.ledger.History(raw)
	if err != nil || len(entries) > 0 {
		return raw, entries, err
	}
	target, err := url.Parse(raw)
	if err != nil {
		return "", nil, err
	}
	rule := a.rule(target)
	if rule == nil {
		rule = &cache.Rule{}
	}
	name = cache.LedgerURL(target, rule, a.ledger.Conceal)
	entries, err = a.ledger.History(name)
	return name, entries, err
}

// Accept finds the variant that is meant.
func (a *ledgerAPI) Accept(raw string, variant *string, sha256 string) (admin.LedgerEntry, error) {
	name, entries, err := a.history(raw)
	if err != nil {
		return admin.LedgerEntry{}, err
	}
	if len(entries) == 0 {
		return admin.LedgerEntry{}, fs.ErrNotExist
	}
	var sum *ledger.Digest
	if sha256 != "" {
		b, err := hex.DecodeString(sha256)
		if err != nil || len(b) != len(ledger.Digest{}) {
			return admin.LedgerEntry{}, fmt.Errorf("%q is no SHA-256: it has 64 hexadecimal digits", sha256)
		}
		sum = new(ledger.Digest(b))
	}
	which, err := variantOf(entries, variant, sum != nil)
	if err != nil {
		return admin.LedgerEntry{}, err
	}
	e, err := a.ledger.Accept(name, which, sum)
	return shownEntry(e), err
}

// variantOf returns the variant to accept: the one that is named, or the only one that has
// changed, or if any will do the only one there is.
func variantOf(entries []ledger.Entry, named *string, anyWillDo bool) (string, error) {
	latest := make(map[string]ledger.Entry)
	for _, e := range entries {
		latest[e.Variant] = e
	}
	var changed, all []string
	for variant, e := range latest {
		all = append(all, variant)
		if e.Kind == ledger.Changed {
			changed = append(changed, variant)
		}
	}
	slices.Sort(changed)
	switch {
	case named != nil:
		e, ok := latest[*named]
		if !ok {
			return "", fs.ErrNotExist
		}
		if e.Kind != ledger.Changed && !anyWillDo {
			return "", errors.New("nothing else than what is in force has come under this URL")
		}
		return *named, nil
	case len(changed) == 1:
		return changed[0], nil
	case len(changed) > 1:
		return "", fmt.Errorf("several variants of it have changed, name one of them: %q", changed)
	case anyWillDo && len(all) == 1:
		return all[0], nil
	case anyWillDo:
		slices.Sort(all)
		return "", fmt.Errorf("it has several variants, name one of them: %q", all)
	}
	return "", errors.New("nothing else than what is in force has come under this URL")
}

func (a *ledgerAPI) Export(w io.Writer, from int64) error { return a.ledger.Export(w, from) }

func shownEntry(e ledger.Entry) admin.LedgerEntry {
	shown := admin.LedgerEntry{
		N: e.N, Time: e.Time, Kind: e.Kind.String(), URL: e.URL, Variant: e.Variant,
		SHA256: e.SHA256.String(), Size: e.Size, Refused: e.Refused,
	}
	if e.Kind != ledger.First {
		shown.Was = e.Was.String()
	}
	return shown
}

func shownEntries(entries []ledger.Entry) []admin.LedgerEntry {
	var all []admin.LedgerEntry
	for _, e := range entries {
		all = append(all, shownEntry(e))
	}
	return all
}

// shortDigest is enough of a digest to tell two apart in a line.
func shortDigest(hexed string) string {
	return hexed[:min(len(hexed), 16)] + strings.Repeat("…", min(1, max(0, len(hexed)-16)))
}
