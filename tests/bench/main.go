package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"time"
)

// options of one run of the benchmark.
type options struct {
	larder   string
	rounds   int
	time     time.Duration
	only     string
	million  int
	huge     byteSize
	hugeTime time.Duration
	keep     string
	out      string
	others   bool
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == bareCommand {
		if err := serveBare(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench: bare server:", err)
			os.Exit(1)
		}
		return
	}
	o := options{huge: 1 << 30}
	flag.StringVar(&o.larder, "larder", "./larder", "larder `program` to measure")
	flag.IntVar(&o.rounds, "rounds", 5, "counted rounds of each case")
	flag.DurationVar(&o.time, "time", time.Second, "length of one round of a case of hits")
	flag.StringVar(&o.only, "only", "", "`words` that a case's name must contain; empty: all")
	flag.BoolVar(&o.others, "others", true, "measure nginx and squid too where they are installed")
	flag.Var(&o.huge, "huge", "`size` of the object whose reading is measured for memory")
	flag.DurationVar(&o.hugeTime, "huge-time", 6*time.Second, "how long 64 clients read it at most, cold and hot each")
	flag.IntVar(&o.million, "million", 0, "`number` of objects for the case of a full store, 1000000 takes minutes; 0: leave it out")
	flag.StringVar(&o.keep, "keep", "", "`folder` to keep state and logs in (default: a temporary one, removed)")
	flag.StringVar(&o.out, "out", "", "Markdown `file` to write the table into, between its marks")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	dir, remove, err := workFolder(o.keep)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	cores, err := takeLoadCores()
	if err != nil {
		return fmt.Errorf("leave the first core to the servers: %w", err)
	}
	b, err := newBench(o, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	t := &table{cores: cores, rounds: o.rounds, started: time.Now()}
	for _, c := range b.cases() {
		if !c.matches(o.only) {
			continue
		}
		began := time.Now()
		fmt.Fprintf(os.Stderr, "bench: %s ...", c.name)
		figures, err := c.run(ctx)
		if err != nil {
			fmt.Fprintln(os.Stderr)
			return fmt.Errorf("%s: %w", c.name, err)
		}
		fmt.Fprintf(os.Stderr, " %v\n", time.Since(began).Round(100*time.Millisecond))
		t.add(figures...)
	}
	text := t.markdown()
	fmt.Print(text)
	if o.out == "" {
		return nil
	}
	return writeBetweenMarks(o.out, text)
}

// workFolder returns the folder for state and logs and what removes it.
func workFolder(keep string) (dir string, remove func() error, err error) {
	if keep == "" {
		dir, err = os.MkdirTemp("", "larder-bench-")
		if err != nil {
			return "", nil, err
		}
		// nginx and squid give up root and must still get in.
		return dir, func() error { return os.RemoveAll(dir) }, os.Chmod(dir, 0o755)
	}
	dir, err = filepath.Abs(keep)
	if err != nil {
		return "", nil, err
	}
	return dir, func() error { return nil }, os.MkdirAll(dir, 0o755)
}

// platform is what a reader of the figures wants to know of the machine.
func platform() string {
	return fmt.Sprintf("%s, %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
