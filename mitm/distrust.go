package mitm

import (
	"context"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Distrust is a client that does not take larder's certificate for a host.
type Distrust struct {
	Time time.Time
	// Client is its address. User is the name that it has proved, Run the command that
	// its listener is for; "" where there is none.
	Client    netip.Addr
	User, Run string
	// Host is for which larder showed a certificate.
	Host string
	// Via is larder's host:port as the client reaches it, "" if not known.
	Via string
	// Tool is the likely program, one of hello.Tools, and Title names it in a sentence.
	// Basis says what that rests on.
	Tool, Title, Basis string
	// JA4 is its fingerprint, UserAgent what its CONNECT said; "" if there was none.
	JA4, UserAgent string
	// Reason is one of Reasons.
	Reason string
	// Count is for how many handshakes this stands, at least one.
	Count int
	// Elsewhere is when it last took larder's certificate for another host; zero: it is
	// not known to. Who does has larder's root, and has pinned this host's certificate.
	Elsewhere time.Time
	// Until is when the client's connections to Host will be opened again, and By the
	// policy rule that has them tunnelled until then, or on_distrust; zero where they
	// are not.
	Until time.Time
	By    string
}

// DistrustObserver is told of clients that do not trust larder. It is called
// concurrently, beside the handling of connections, and must be quick.
type DistrustObserver interface {
	// Distrusted is called when a client has refused a certificate.
	Distrusted(d Distrust)
	// Trusted is called when one that had has taken one, which may be for another
	// host; not each time. Reason and Count are not set.
	Trusted(d Distrust)
	// Tunnelled is called when the connections of a client that has refused a host's
	// certificate begin to be tunnelled. Count is not set.
	Tunnelled(d Distrust)
}

// Run is the command that a listener is for; see Server.Serve.
type Run struct {
	// ID is another for each run.
	ID string
	// Command is its name.
	Command string
}

// who is a client that something is remembered of: an address and a user, in a run,
// and, since one address may be of many programs, the shape of what they begin with.
type who struct {
	addr      netip.Addr
	user, run string
	shape     uint64
}

// party is a client together with a host.
type party struct {
	who
	host string
}

const (
	// maxParties and maxClients bound what is remembered; of more, what was seen least
	// lately is forgotten. Each takes some 300 bytes.
	maxParties = 4096
	maxClients = 4096
	// suspicionTime is how long a suspicion waits for another, and how long a client
	// that has trusted larder is above it.
	suspicionTime = 10 * time.Minute
	// sayEvery is the least time between two lines of the log about a party.
	sayEvery = 10 * time.Minute
	// linesPerMinute bounds those about all of them.
	linesPerMinute = 60
	// trustedEvery is the least time between two reports that a client trusts larder
	// for other hosts.
	trustedEvery = time.Minute
)

// register remembers which clients trust larder for which hosts, in bounded memory.
// It is safe for concurrent use.
type register struct {
	seed     maphash.Seed
	observer DistrustObserver // may be nil
	logger   *slog.Logger
	metrics  *metrics
	lines    *rate.Limiter
	any      atomic.Bool // something was refused, once

	mu      sync.Mutex // guards the rest
	parties *recent[party, partyState]
	clients *recent[who, clientState]
}

// partyState is of one client and one host.
type partyState struct {
	trusted   time.Time // last
	suspected time.Time // last, and not counted yet
	refusals  int       // since it was last trusted
	refused   time.Time // last
	reason    string    // of the last
	until     time.Time // it is tunnelled; zero: it is not
	said      time.Time // in the log
	unsaid    int       // refusals since
}

// clientState is of one client and all hosts.
type clientState struct {
	trusted time.Time // last
	host    string    // for which
	refuses bool      // it has refused since it was last told of as trusting
	told    time.Time // last
}

func newRegister(o Options, m *metrics) *register {
	return &register{
		seed: maphash.MakeSeed(), observer: o.Distrust, logger: o.Logger, metrics: m,
		lines:   rate.NewLimiter(rate.Every(time.Minute/linesPerMinute), linesPerMinute),
		parties: newRecent[party, partyState](maxParties),
		clients: newRecent[who, clientState](maxClients),
	}
}

// refused notes that a client seems not to trust larder for a host, and reports
// whether that is so: a suspicion alone is none.
func (g *register) refused(p party, d Distrust, v verdict, quiet bool) bool {
	g.mu.Lock()
	s := g.parties.use(p)
	d.Count = s.count(v, quiet, d.Time)
	if d.Count == 0 {
		g.mu.Unlock()
		return false
	}
	g.any.Store(true)
	if v != incompatible { // which a tunnel would help, but nobody has asked for
		if d.Time.Sub(s.refused) > forgotten {
			s.refusals = 0
		}
		s.refusals += d.Count
		s.refused, s.reason = d.Time, d.Reason
	}
	s.unsaid += d.Count
	say, unsaid := d.Time.Sub(s.said) >= sayEvery, s.unsaid
	if say = say && g.lines.AllowN(d.Time, 1); say {
		s.said, s.unsaid = d.Time, 0
	}
	c := g.clients.use(p.who)
	c.refuses = true
	if c.host != p.host {
		d.Elsewhere = c.trusted
	}
	g.mu.Unlock()

	g.metrics.distrust.WithLabelValues(d.Reason, d.Tool).Add(float64(d.Count))
	if say {
		d.log(g.logger, unsaid)
	}
	if g.observer != nil {
		g.observer.Distrusted(d)
	}
	return true
}

// count returns for how many handshakes of distrust an ending stands.
func (s *partyState) count(v verdict, quiet bool, now time.Time) int {
	trusting := !s.trusted.IsZero() && now.Sub(s.trusted) < suspicionTime
	switch {
	case v == distrust, v == incompatible:
		return 1
	case trusting:
		return 0 // whoever has just taken the certificate has another reason to go
	case v == quietly && quiet, s.refusals > 0:
		return 1
	case !s.suspected.IsZero() && now.Sub(s.suspected) < suspicionTime:
		s.suspected = time.Time{}
		return 2
	}
	s.suspected = now
	return 0
}

// trusted notes that a client has taken larder's certificate.
func (g *register) trusted(t *trial) {
	p, now := t.party(), time.Now()
	g.mu.Lock()
	s, c := g.parties.use(p), g.clients.use(p.who)
	mended := s.refusals > 0
	*s = partyState{trusted: now, said: s.said, unsaid: s.unsaid}
	c.trusted, c.host = now, p.host
	tell := c.refuses && g.observer != nil && (mended || now.Sub(c.told) >= trustedEvery)
	if tell {
		c.told = now
	}
	g.mu.Unlock()
	if tell {
		d, _ := t.judge()
		g.observer.Trusted(d)
	}
}

// log says that a client does not trust larder; refusals are those since it was last
// said.
func (d *Distrust) log(logger *slog.Logger, refusals int) {
	message := "client does not trust larder"
	if d.Reason == ReasonIncompatible {
		message = "client speaks no TLS that larder does"
	}
	logger.LogAttrs(context.Background(), slog.LevelWarn, message, d.attrs(refusals)...)
}

// attrs are what a log says of it.
func (d *Distrust) attrs(refusals int) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("client", d.Client.String()),
		slog.String("host", d.Host),
		slog.String("tool", d.Tool),
		slog.String("basis", d.Basis),
		slog.String("reason", d.Reason),
		slog.Int("refusals", refusals),
	}
	for _, a := range []slog.Attr{slog.String("user", d.User), slog.String("run", d.Run), slog.String("user_agent", d.UserAgent), slog.String("ja4", d.JA4)} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	if !d.Elsewhere.IsZero() {
		attrs = append(attrs, slog.Time("trusts_other_hosts", d.Elsewhere))
	}
	return attrs
}
