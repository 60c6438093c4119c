package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"larder/admin"
	"larder/daemon"
)

// storeFlags say which larder the store commands, and doctor, speak with.
type storeFlags struct {
	config, state, admin, token string
}

func newStore() *cobra.Command {
	cmd := asGroup(&cobra.Command{
		Use:   "store",
		Short: "Look at what a running larder has stored, and change it",
		Long: `Look at what a running larder has stored, and change it.

The larder is that of the state folder: "larder serve", or the background one of
"larder run". Another machine's is named by --admin, with the token that is in
its state folder, run/admin.token.

GLOB is a pattern for URLs: * is any characters but a slash (in the host, any
labels), ** any characters, {a,b} one of these. Without a scheme it is for http
and https, without a path for all of a host, without a query for any.`,
		Example: `  larder store ls 'files.example.org/**.whl'
  larder store stat https://files.example.org/a-1.0.whl
  larder store rm --match '*.example.org/left-pad/**'
  larder store verify --rate 50MiB
  larder store warm requirements.txt package-lock.json go.sum Cargo.lock
  larder store export --output site.tar && larder store import site.tar`,
	})
	var f storeFlags
	f.register(cmd.PersistentFlags())
	cmd.AddCommand(
		newStoreLs(&f),
		newStoreStat(&f),
		newStoreRm(&f),
		newStoreVerify(&f),
		newStoreExport(&f),
		newStoreImport(&f),
		newStoreWarm(&f),
	)
	return cmd
}

func (f *storeFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.config, "config", "", "configuration `file` of the larder (default: the user's or system's, else the built-in one)")
	fl.StringVar(&f.state, "state", "", "state `folder` of the larder")
	fl.StringVar(&f.admin, "admin", "", "`address` (host:port) of the larder's admin listener, in place of its state folder")
	fl.StringVar(&f.token, "token-file", "", "`file` with the token for --admin (default: $LARDER_ADMIN_TOKEN, else that of the state folder)")
}

// withStore calls do with a client of the larder that the flags name, and a context
// that ends with SIGINT and SIGTERM.
func (f *storeFlags) withStore(ctx context.Context, do func(context.Context, *admin.Client) error) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
	defer stop()
	c, err := f.client()
	if err != nil {
		return err
	}
	defer c.Close()
	err = do(ctx, c)
	switch {
	case ctx.Err() != nil:
		return &exitError{code: exitSignalBase + int(unix.SIGINT), err: errors.New("interrupted")}
	case errors.Is(err, daemon.ErrNoLarder):
		paths, perr := f.paths()
		if perr != nil {
			return perr
		}
		return withHint(fmt.Errorf("no larder is running with the state folder %s", paths.State),
			"start 'larder serve' or 'larder run -- true', or name a running one with --state or --admin")
	case errors.Is(err, unix.ECONNREFUSED):
		return withHint(err, "is it the address of 'admin' in the configuration of a running 'larder serve'?")
	}
	return err
}

func (f *storeFlags) paths() (daemon.Paths, error) {
	state := f.state
	if state == "" {
		p, err := loadPolicy(f.config)
		if err != nil {
			return daemon.Paths{}, err
		}
		state = p.Settings().State
	}
	return daemon.DefaultPaths(state, os.Getenv, os.Getuid())
}

func (f *storeFlags) client() (*admin.Client, error) {
	if f.admin == "" {
		paths, err := f.paths()
		if err != nil {
			return nil, err
		}
		return admin.NewClient("localhost", "", func(ctx context.Context) (net.Conn, error) {
			return daemon.DialAdmin(ctx, paths)
		}), nil
	}
	addr, err := adminAddress(f.admin)
	if err != nil {
		return nil, usageError(err)
	}
	token, err := f.adminToken()
	if err != nil {
		return nil, err
	}
	return admin.NewClient(addr, token, nil), nil
}

// adminAddress reads host:port, also written as the URL that a browser takes.
func adminAddress(s string) (string, error) {
	addr := strings.TrimSuffix(strings.TrimPrefix(s, "http://"), "/")
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" {
		return "", withHint(fmt.Errorf("--admin %q is no address", s), "write it as host:port")
	}
	return net.JoinHostPort(cmp.Or(host, "localhost"), port), nil
}

// adminToken is the token for --admin: that of the flag, of the environment, or of
// the state folder if there is one. Without any the larder says what it asks for.
func (f *storeFlags) adminToken() (string, error) {
	if f.token != "" {
		token, err := readToken(f.token)
		return token, usageError(err)
	}
	if token := os.Getenv("LARDER_ADMIN_TOKEN"); token != "" {
		return token, nil
	}
	paths, err := f.paths()
	if err != nil {
		return "", err
	}
	token, err := readToken(tokenFile(paths))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return "", nil
	}
	return token, err
}

// maximumArgs is cobra.MaximumNArgs with an error that exits with the usage code.
func maximumArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.MaximumNArgs(n)(cmd, args); err != nil {
			return usageError(withHint(err, "usage: %s", cmd.UseLine()))
		}
		return nil
	}
}

// isTerminal reports whether a person is likely to be at the other end of a stream.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
