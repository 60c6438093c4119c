package cache

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxVerdicts bounds the credentials, each with what it was asked for, of which is
	// known that upstream lets them have it; some 200 bytes each.
	maxVerdicts = 1 << 15
	// maxPlaces bounds the URLs of which is known that upstream has there what they name,
	// and maxGrants the signed URLs that upstream has sent clients to.
	maxPlaces = 1 << 16
	maxGrants = 1 << 14
	// placeTTL is how long upstream is taken still to have something where it had it.
	placeTTL = time.Hour
	// defaultRecheckTTL is how long that is believed where the rule does not say.
	defaultRecheckTTL = 2 * time.Minute
)

// verdicts remembers whom upstream has let have what, and until when. Neither credentials
// nor URLs are in it, but what HMAC makes of them under a key that lives as long as the
// process: nothing can be learnt of either from memory dumps, nor by timing look-ups.
type verdicts struct {
	secret [sha256.Size]byte

	mu sync.Mutex
	// allowed are by credential and scope.
	allowed recent[verdictKey, permission]
	// places are URLs at which upstream had the content whose digest they name. Who may
	// read one repository may not, for that, read by digest what only another one holds.
	places recent[verdictKey, time.Time]
	// grants are signed URLs that upstream has sent clients to.
	grants recent[verdictKey, grant]
	// questions are those that are being put to upstream, by credential and request.
	questions map[verdictKey]*question
}

type verdictKey [sha256.Size]byte

// permission is upstream's word that a credential may have something.
type permission struct {
	at      time.Time
	expires time.Time // the credential itself, by its own word; zero: it does not say
}

// grant is a signed URL that came in a redirect.
type grant struct {
	until time.Time
	by    string // the host whose redirect it was
}

// holds reports whether it may be relied on for a time after it was given.
func (p permission) holds(now time.Time, ttl time.Duration) bool {
	return now.Sub(p.at) < ttl && (p.expires.IsZero() || now.Before(p.expires))
}

func (v *verdicts) init() {
	rand.Read(v.secret[:]) // never fails
	v.allowed.limit, v.places.limit, v.grants.limit = maxVerdicts, maxPlaces, maxGrants
	v.questions = make(map[verdictKey]*question)
}

// claim is a client's request for access as the table knows it.
type claim struct {
	scope   verdictKey // the credential, for everything that its rule judges together
	who     []byte     // the credential
	place   verdictKey // the URL, where it has to be known besides that it has what it names
	grant   verdictKey // the URL, where it may be a right by itself
	placed  bool
	granted bool
	request *http.Request
}

// claimOf makes the claim of a request under a rule.
func (v *verdicts) claimOf(r *http.Request, rule *Rule) claim {
	mac := hmac.New(sha256.New, v.secret[:])
	addTo(mac, rule.Partition)
	names := slices.Sorted(maps.Keys(r.Header))
	for _, name := range names {
		if values := r.Header[name]; len(values) > 0 && tellsWho(name, values) {
			addTo(mac, name)
			addTo(mac, strconv.Itoa(len(values)))
			for _, value := range values {
				addTo(mac, value)
			}
		}
	}
	if r.URL.User != nil {
		addTo(mac, r.URL.User.String())
	}
	eachParameter(r.URL.RawQuery, func(name, value string) {
		if isUserToken(name) || IsSecret(name) {
			addTo(mac, name)
			addTo(mac, value)
		}
	})
	who := mac.Sum(nil)
	c := claim{request: r, who: who}
	exact := exactly(r.URL)
	c.scope = v.about(who, "scope", strings.ToLower(r.URL.Scheme), strings.ToLower(r.URL.Host), rule.scopeOf(r.URL))
	if rule.Access == AccessSigned {
		c.grant, c.granted = v.about(nil, "grant", exact), true
		c.scope = v.about(who, "signed", exact)
	} else if rule.byContent() {
		c.place, c.placed = v.about(nil, "place", exact), true
	}
	return c
}

// expires is when what the claim rests on ends by its own word, zero if it does not say:
// a token, or the signature of the URL.
func (c claim) expires() time.Time {
	end := tokenExpiry(c.request.Header)
	if c.granted {
		if s := signatureOf(c.request.URL); end.IsZero() || !s.expires.IsZero() && s.expires.Before(end) {
			end = s.expires
		}
	}
	return end
}

// target is what the table knows a claim by that is for one request alone.
func (v *verdicts) target(c claim) verdictKey {
	r := c.request
	return v.about(c.who, "target", r.Method, exactly(r.URL), fieldSource(r.Header).normal("accept"))
}

// exactly is a URL as the table knows it: whole, but for how its host is written.
func exactly(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = defaultPort(strings.ToLower(u.Scheme))
	}
	return strings.ToLower(u.Scheme) + "://" + strings.ToLower(u.Hostname()) + ":" + port + u.EscapedPath() + "?" + u.RawQuery
}

// about is what the table knows a credential by, with what it is shown for.
func (v *verdicts) about(who []byte, parts ...string) (key verdictKey) {
	mac := hmac.New(sha256.New, v.secret[:])
	mac.Write(who)
	for _, p := range parts {
		addTo(mac, p)
	}
	mac.Sum(key[:0])
	return key
}

func addTo(h hash.Hash, s string) {
	var n [binary.MaxVarintLen64]byte
	h.Write(binary.AppendUvarint(n[:0], uint64(len(s))))
	h.Write([]byte(s))
}

// scopeOf is what of the path of u access is judged by.
func (r *Rule) scopeOf(u *url.URL) string {
	path := u.EscapedPath()
	if r.RecheckScope != nil {
		if m := r.RecheckScope.FindStringSubmatch(path); m != nil {
			return r.RecheckScope.String() + "\x00" + r.RecheckAt + "\x00" + strings.Join(m[1:], "\x00")
		}
	}
	return path + "?" + u.RawQuery
}

// recheckTTL is how long upstream's word on a credential is believed.
func (r *Rule) recheckTTL() time.Duration {
	if r.RecheckTTL > 0 {
		return r.RecheckTTL
	}
	return defaultRecheckTTL
}

// allows reports whether upstream has lately let the claim pass: no longer ago than the
// rule relies on it, and late more.
func (v *verdicts) allows(c claim, rule *Rule, late time.Duration, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c.granted && rule.SignedBy != nil {
		if g, ok := v.grants.get(c.grant); ok && now.Before(g.until) && rule.SignedBy(g.by) {
			return true
		}
	}
	if c.placed {
		if at, ok := v.places.get(c.place); !ok || now.Sub(at) >= placeTTL+late {
			return false
		}
	}
	found, ok := v.allowed.get(c.scope)
	return ok && found.holds(now, rule.recheckTTL()+late)
}

// noteRedirect remembers a signed URL to which upstream sends a client, until it expires.
func (v *verdicts) noteRedirect(from *url.URL, status int, header http.Header, now time.Time) {
	to := locationOf(from, status, header)
	if to == nil || from.Scheme != "https" || to.Scheme != "https" {
		return
	}
	s := signatureOf(to)
	if !s.signed || !s.expires.After(now) {
		return
	}
	key := v.about(nil, "grant", exactly(to))
	v.mu.Lock()
	defer v.mu.Unlock()
	v.grants.put(key, grant{until: s.expires, by: from.Hostname()})
}

// allow notes that upstream has let the claim pass.
func (v *verdicts) allow(c claim, now time.Time) {
	expires := c.expires()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.allowed.put(c.scope, permission{at: now, expires: expires})
	if c.placed {
		v.places.put(c.place, now)
	}
}

// refuse forgets that it ever did; gone, also that there is anything at the place. Many
// say that there is nothing where they mean that it is not for the client.
func (v *verdicts) refuse(c claim, gone bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.allowed.remove(c.scope)
	if gone && c.placed {
		v.places.remove(c.place)
	}
}

// unplace forgets what is at a URL, since somebody has changed it.
func (v *verdicts) unplace(u *url.URL) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.places.remove(v.about(nil, "place", exactly(u)))
}

// tokenExpiry is when a bearer token expires that is a JSON Web Token (RFC 7519, section
// 4.1.4), or zero. Its signature is for upstream to judge: here the time can only make
// larder ask sooner.
func tokenExpiry(h http.Header) time.Time {
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return time.Time{}
	}
	return jwtExpiry(token)
}

// jwtExpiry reads exp of a JSON Web Token, zero for anything else.
func jwtExpiry(token string) time.Time {
	_, rest, ok := strings.Cut(token, ".")
	payload, _, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 {
		return time.Time{}
	}
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(payload, "="))
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Expires *json.Number `json:"exp"`
	}
	if json.Unmarshal(data, &claims) != nil || claims.Expires == nil {
		return time.Time{}
	}
	seconds, err := claims.Expires.Float64()
	if err != nil || seconds < 0 || seconds > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}
