package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"larder/auth"
	"larder/policy"
)

// loadedPolicy is a policy and where it came from.
type loadedPolicy struct {
	*policy.Policy
	file   string            // "" for the built-in one
	digest [sha256.Size]byte // of the text that was compiled; zero for the built-in one
}

// loadPolicy reads the configuration named by the flag, else the first default
// that exists, else the built-in one with every preset.
func loadPolicy(flag string) (loadedPolicy, error) {
	file := flag
	if file == "" {
		var err error
		if file, err = defaultConfig(os.Getenv, os.Getuid()); err != nil {
			return loadedPolicy{}, err
		}
	}
	if file == "" {
		p, err := policy.Load("")
		return loadedPolicy{Policy: p}, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return loadedPolicy{}, usageError(withHint(fmt.Errorf("read the configuration: %w", err),
			"'larder config print' writes one to start from"))
	}
	p, err := policy.Parse(file, text)
	if err != nil {
		return loadedPolicy{}, usageError(err)
	}
	return loadedPolicy{Policy: p, file: file, digest: digestOf(text, p)}, nil
}

// loaded is a policy that was read from a file a moment ago.
func loaded(p *policy.Policy, file string) loadedPolicy {
	l := loadedPolicy{Policy: p, file: file}
	if text, err := os.ReadFile(file); err == nil && file != "" {
		l.digest = digestOf(text, p)
	}
	return l
}

// digestOf stands for a configuration with the lists that it names.
func digestOf(text []byte, p *policy.Policy) [sha256.Size]byte {
	h := sha256.New()
	_, _ = h.Write(text) // a hash never fails
	for _, c := range p.Settings().Curation {
		if c.PackagesFile == "" {
			continue
		}
		if list, err := os.ReadFile(c.PackagesFile); err == nil { // it was read a moment ago
			sum := sha256.Sum256(list)
			_, _ = h.Write(sum[:])
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// defaultConfig is the first of configFiles that exists, "" when there is none.
func defaultConfig(getenv func(string) string, uid int) (string, error) {
	for _, path := range configFiles(getenv, uid) {
		_, err := os.Stat(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			// A configuration that exists and cannot be read must not be taken for none.
			return "", withHint(fmt.Errorf("look for the configuration: %w", err), "set HOME to a folder of the user that larder runs as, or name the file with --config")
		}
	}
	return "", nil
}

// systemConfig is where a fleet's configuration is, whoever larder runs as.
const systemConfig = "/etc/larder/larder.yaml"

// configFiles are the places of the configuration: the user's own, then the
// system's. Root's own is the system's.
func configFiles(getenv func(string) string, uid int) []string {
	const file = "larder/larder.yaml"
	switch {
	case uid == 0:
		return []string{systemConfig}
	case getenv("XDG_CONFIG_HOME") != "":
		return []string{filepath.Join(getenv("XDG_CONFIG_HOME"), file), systemConfig}
	case getenv("HOME") != "":
		return []string{filepath.Join(getenv("HOME"), ".config", file), systemConfig}
	default:
		return []string{systemConfig}
	}
}

func newConfig() *cobra.Command {
	cmd := asGroup(&cobra.Command{Use: "config", Short: "Check a configuration, or print one to start from"})
	cmd.AddCommand(newConfigCheck(), newConfigPrint())
	return cmd
}

func newConfigCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Validate a configuration without starting anything",
		Long: `Validate a configuration without starting anything.

Every problem is printed with file, line and column, all at once; the exit code
is 2 when there is one.`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := loadPolicy(args[0])
			if err != nil {
				return err
			}
			// What is right in itself may still name a file that is not there.
			if _, err := newUpstream(p.Settings()); err != nil {
				return usageError(fmt.Errorf("%s: %w", args[0], err))
			}
			if _, err := auth.Open(authFiles(p.Settings()), nil); err != nil {
				return usageError(fmt.Errorf("%s: %w", args[0], err))
			}
			if err := checkListenerFiles(p.Settings().Listeners); err != nil {
				return usageError(fmt.Errorf("%s: %w", args[0], err))
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", args[0])
			return err
		},
	}
}

func newConfigPrint() *cobra.Command {
	return &cobra.Command{
		Use:   "print",
		Short: "Print the default configuration, with every key explained",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), policy.Annotated())
			return err
		},
	}
}
