package daemon

import "time"

// Classes of exchanges that Summary tells apart.
const (
	classHit    = "hit"
	classMiss   = "miss"
	classPass   = "pass"
	classTunnel = "tunnel"
	classDeny   = "deny"
	classError  = "error"
)

// Exchange is one request and its response, or one tunnel, as the proxy reports
// it when it has ended. Its fields are those of mitm.Exchange, in their order, so
// that one converts to the other.
type Exchange struct {
	Start    time.Time     `json:"start"`
	Duration time.Duration `json:"duration_ns"`
	// Client is the address of the client.
	Client string `json:"client,omitempty"`
	// User is the name that the client has proved.
	User   string `json:"user,omitempty"`
	Method string `json:"method"`
	URL    string `json:"url"`
	// Class is hit, miss, pass, tunnel, deny or error.
	Class  string `json:"class"`
	Status int    `json:"status"`
	// Bytes of the body that went to the client; of a tunnel, in both directions.
	Bytes int64 `json:"bytes"`
	// CacheBytes of these came from the store, or from another exchange's fill.
	CacheBytes int64 `json:"cache_bytes"`
	// UpstreamBytes of the body were read from upstream for this exchange.
	UpstreamBytes int64 `json:"upstream_bytes"`
	// CacheStatus is the field value of RFC 9211 as sent.
	CacheStatus string `json:"cache_status,omitempty"`
	// SHA256 of the complete body, in hexadecimal, if it is known.
	SHA256 string `json:"sha256,omitempty"`
	// Verified names the digests that the body was found to have, by algorithm and who
	// named them: url, index, header or client.
	Verified string `json:"verified,omitempty"`
	Rule     string `json:"rule,omitempty"`
	// Reported is the rule that would have denied it, were it enforced.
	Reported string `json:"reported,omitempty"`
	// Distrust is why the client is taken not to trust larder, and Tool the likely
	// program.
	Distrust string `json:"distrust,omitempty"`
	Tool     string `json:"tool,omitempty"`
	Err      string `json:"error,omitempty"`
}

// Summary adds up the exchanges of a run.
type Summary struct {
	// Requests counts every exchange, tunnels among them.
	Requests int64 `json:"requests"`
	Hits     int64 `json:"hits"`
	Misses   int64 `json:"misses"`
	Passed   int64 `json:"passed"`
	Tunnels  int64 `json:"tunnels"`
	Denied   int64 `json:"denied"`
	Errors   int64 `json:"errors"`
	// Distrusted of the errors were handshakes in which a client did not trust larder.
	Distrusted int64 `json:"distrusted"`
	// CacheBytes are body bytes that the store supplied, or another's fill.
	CacheBytes int64 `json:"cache_bytes"`
	// UpstreamBytes are body bytes read from upstream, tunnels excepted.
	UpstreamBytes int64 `json:"upstream_bytes"`
	// TunnelBytes went through tunnels, both directions together.
	TunnelBytes int64 `json:"tunnel_bytes"`
	// Cut counts connections that were still open when the run was finished, and
	// were closed then.
	Cut int `json:"cut"`
	// Unlisted counts exchanges that are in the sums and not in the list, for
	// want of disk space.
	Unlisted int64 `json:"unlisted"`
}

func (s *Summary) add(x Exchange) {
	s.Requests++
	if x.Class == classTunnel {
		s.Tunnels++
		s.TunnelBytes += x.Bytes
		return
	}
	s.CacheBytes += x.CacheBytes
	s.UpstreamBytes += x.UpstreamBytes
	switch x.Class {
	case classHit:
		s.Hits++
	case classMiss:
		s.Misses++
	case classPass:
		s.Passed++
	case classDeny:
		s.Denied++
	case classError:
		s.Errors++
		if x.Distrust != "" {
			s.Distrusted++
		}
	}
}
