package cache

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Access says how it is made sure that a client may have what a request with
// credentials, its own or another's, has brought into the store.
type Access uint8

const (
	// AccessByResponse: RFC 9111, section 3.5. The response to a request with
	// credentials is stored only where it says itself that it is for everybody.
	AccessByResponse Access = iota
	// AccessRecheck stores it, and serves it to a client for whom upstream has
	// answered, with that client's own credentials, that it may have it. So it is with
	// clients that have none: nothing in their requests tells private from public.
	AccessRecheck
	// AccessSigned stores what URLs with a signature bring, under a key without it, and
	// serves it to clients whose very URL upstream, a host that Rule.SignedBy names, has
	// sent in a redirect and that has not expired, or is let pass by upstream now.
	AccessSigned
	// AccessPublic stores it and serves it to everybody: the operator's word that what
	// the rule matches is public, credentials or not.
	AccessPublic
)

// checked reports whether upstream is asked before what is stored is served.
func (r *Rule) checked() bool { return r.Access == AccessRecheck || r.Access == AccessSigned }

// sameForAll reports whether who may have it is all that makes a difference between
// clients: the URL names one content, or upstream says which it is each time.
func (r *Rule) sameForAll() bool { return r.Mode == Immutable || r.ValidateHead }

// trustsPrivate reports whether a response that calls itself private may be stored:
// where upstream decides for each client, and nobody's is another.
func (r *Rule) trustsPrivate() bool { return r.checked() && r.sameForAll() }

// anonymousBearer is what Homebrew sends to show that it has no credential.
const anonymousBearer = "Bearer QQ=="

// hasCredentials reports whether a request identifies its user. RFC 9111, section
// 3.5, speaks of Authorization; a key or token in another field, a Cookie, and a
// password or token in the URI are the same thing by another way, and treated alike.
// Fields that the rule has set itself say nothing of the client.
func hasCredentials(rule *Rule, r *http.Request) bool {
	if r.URL.User != nil || hasUserToken(r.URL) {
		return true
	}
	return hasCredentialFields(rule, r)
}

func hasCredentialFields(rule *Rule, r *http.Request) bool {
	for name, values := range r.Header {
		if len(values) > 0 && isCredential(name, values) && !slices.Contains(rule.OwnFields, name) {
			return true
		}
	}
	return false
}

// isCredential reports whether a request field identifies the user.
func isCredential(name string, values []string) bool {
	if name == "Authorization" {
		return len(values) != 1 || values[0] != anonymousBearer
	}
	return IsSecret(name)
}

// tellsWho reports whether upstream may decide by a request field who may have what is
// asked for.
func tellsWho(name string, values []string) bool {
	if name == "Authorization" {
		return isCredential(name, values)
	}
	return MayAdmit(name)
}

// MayAdmit reports whether a request field, by its name in canonical form, is one by which
// an origin may let a client in: a credential, or any of which nothing is known. It is none
// where package clients and browsers send it to everybody, or it speaks of one connection
// or the client's own copy. What was answered to a request with such a field is the answer
// to no request that has not the same.
func MayAdmit(name string) bool {
	return IsSecret(name) || routing(name) || !harmless(name) && !hopByHop(name) && !ownCopyField(name)
}

// userTokens are query parameters that carry what Authorization would.
func userTokens() []string {
	return []string{"private_token", "access_token", "job_token", "token", "api_key", "apikey"}
}

func isUserToken(name string) bool {
	return slices.Contains(userTokens(), strings.ToLower(name))
}

func hasUserToken(u *url.URL) bool {
	found := false
	eachParameter(u.RawQuery, func(name, _ string) { found = found || isUserToken(name) })
	return found
}

// eachParameter calls f with the decoded names and the raw values of a query.
func eachParameter(query string, f func(name, value string)) {
	if query == "" {
		return
	}
	for part := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		f(name, value)
	}
}
