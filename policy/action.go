package policy

import "fmt"

// Action is what larder does with a connection or a request. The zero value
// is no action and never appears in a Decision.
type Action uint8

// The actions, from the least to the most that larder does.
const (
	// Deny refuses: 403, before TLS for a CONNECT whose host alone decides.
	Deny Action = iota + 1
	// Tunnel carries bytes that larder never looks at. For an http:// request,
	// which cannot be tunnelled, it forwards the message unmodified.
	Tunnel
	// Pass opens the TLS and forwards every message unmodified, storing nothing.
	Pass
	// Immutable stores a 200 and serves it for TTL (0: for ever) without asking
	// upstream, whatever the client's freshness directives say.
	Immutable
	// Revalidate stores a response, serves it for TTL (0: never) without asking,
	// and after that validates it (RFC 9111, section 4.3).
	Revalidate
	// HTTP stores what RFC 9111 lets a shared cache store and reuses it as the
	// directives of client and origin say; the rule adds no freshness of its own.
	HTTP
)

var actionNames = [...]string{Deny: "deny", Tunnel: "tunnel", Pass: "pass", Immutable: "immutable", Revalidate: "revalidate", HTTP: "http"}

// String returns the word of the policy file.
func (a Action) String() string {
	if a == 0 || int(a) >= len(actionNames) {
		return fmt.Sprintf("Action(%d)", uint8(a))
	}
	return actionNames[a]
}

// Stores reports whether the action may put a response into the cache.
func (a Action) Stores() bool { return a == Immutable || a == Revalidate || a == HTTP }

// intercepts reports whether a rule with this action makes larder open TLS.
func (a Action) intercepts() bool { return a == Pass || a.Stores() }

func parseAction(s string) (Action, bool) {
	for a := Deny; a <= HTTP; a++ {
		if actionNames[a] == s {
			return a, true
		}
	}
	return 0, false
}
