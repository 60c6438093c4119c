// Package bootstrap makes net/http and golang.org/x/net/http2 know extended CONNECT,
// by which a WebSocket is bootstrapped over HTTP/2 (RFC 8441).
//
// Both look for http2xconnect=1 in the environment variable GODEBUG while they are
// initialised and have no other switch (go.dev/issue/71128). The language initialises
// of the packages that can be the one whose path is first in the alphabet, and this
// one, which needs nothing but os, comes before net/http. Package mitm, which comes
// after it, calls Restore, so that no process that larder starts sees anything of it.
//
// There is nothing else in this package, and nothing else may be: whatever it imported
// might be initialised after net/http.
package bootstrap

import "os"

const (
	variable = "GODEBUG"
	setting  = "http2xconnect=1"
)

// before is what the variable was, and whether it was.
var before, was = enable()

func enable() (before string, was bool) {
	before, was = os.LookupEnv(variable)
	value := setting
	if before != "" {
		value = before + "," + setting
	}
	_ = os.Setenv(variable, value) // the name is valid
	return before, was
}

// Restore puts the environment back as it was, unless somebody has changed it since.
// It must be called after net/http and x/net were initialised, and before anything is
// started.
func Restore() {
	if now := os.Getenv(variable); now != setting && now != before+","+setting {
		return
	}
	if !was {
		_ = os.Unsetenv(variable)
		return
	}
	_ = os.Setenv(variable, before)
}
