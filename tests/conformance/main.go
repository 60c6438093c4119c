package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
)

// options of one run.
type options struct {
	larder string
	suite  string
	work   string
	docs   string
	id     string
}

func main() {
	var o options
	flag.StringVar(&o.larder, "larder", "./larder", "larder `program` to test")
	flag.StringVar(&o.suite, "suite", "", "`folder` of another version of the suite (default: the npm package)")
	flag.StringVar(&o.work, "work", "out/conformance", "`folder` for the npm packages, logs and results")
	flag.StringVar(&o.docs, "docs", "", "document whose generated part is to be rewritten, a `file`")
	flag.StringVar(&o.id, "id", "", "run this one test and show its messages")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	var err error
	for _, p := range []*string{&o.larder, &o.work} {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	s, err := openSuite(ctx, o.work, o.suite)
	if err != nil {
		return err
	}
	var all []modeResult
	for _, m := range modes() {
		results, err := m.run(ctx, s, o)
		if err != nil {
			return fmt.Errorf("%s: %w", m.title, err)
		}
		all = append(all, modeResult{m.title, results})
	}
	if o.id != "" {
		for _, m := range all {
			for _, t := range m.tests {
				fmt.Printf("%s: %s %s\n", m.title, t.verdict(), t.Reason)
			}
		}
		return nil
	}
	r, err := newReport(s, all)
	if err != nil {
		return err
	}
	fmt.Print(r.text())
	if o.docs != "" {
		if err := r.document(o.docs); err != nil {
			return err
		}
	}
	return errors.Join(r.surprises()...)
}
