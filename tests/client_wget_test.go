package tests

import (
	"testing"
)

// wgetClient fetches what curl does. Debian's wget is built with GnuTLS and reads
// no variable for roots, only its own settings.
func wgetClient() client {
	c := curlClient()
	c.name, c.needs = "wget", []string{"wget"}
	inner := c.fetch
	c.fetch = func(t *testing.T, dir string) command {
		cmd := inner(t, dir)
		urls := cmd.argv[len(cmd.argv)-2:]
		cmd.argv = append([]string{"wget", "--no-verbose"}, urls...)
		return cmd
	}
	return c
}
