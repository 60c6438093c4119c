package main

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/pflag"
)

// logFlags choose how a larder that stays in the foreground logs.
type logFlags struct{ level, format string }

func (f *logFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.level, "log-level", "info", "least important `level` logged: debug, info, warn, error")
	fl.StringVar(&f.format, "log-format", "text", "`format` of the log: text or json")
}

func (f *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.level)); err != nil {
		return nil, withHint(fmt.Errorf("--log-level %q is not known", f.level), "levels are: debug, info, warn, error")
	}
	opts := &slog.HandlerOptions{Level: level}
	switch f.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	default:
		return nil, withHint(fmt.Errorf("--log-format %q is not known", f.format), "formats are: text, json")
	}
}
