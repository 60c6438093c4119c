package remote

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	infohandler "github.com/cloudflare/cfssl/api/info"
	"github.com/cloudflare/cfssl/api/signhandler"
	"github.com/cloudflare/cfssl/auth"
	"github.com/cloudflare/cfssl/certdb"
	"github.com/cloudflare/cfssl/config"
	"github.com/cloudflare/cfssl/info"
	"github.com/cloudflare/cfssl/signer"
	"golang.org/x/time/rate"

	"larder/ca"
)

const (
	// maxRequest is many times what a request for a certificate has.
	maxRequest = 64 << 10
	// A node asks when it starts without a certificate, when its policy widens
	// and when two thirds of a year are over; one that asks for more than these
	// has lost its mind or its key.
	signPause = 10 * time.Minute
	signBurst = 20
)

// Options says for whom a Handler signs, and what.
type Options struct {
	// Keeper has the root.
	Keeper ca.Keeper
	// Permitted returns the names that may be asked for, as in ca.Options; it
	// is called for each request.
	Permitted func() ([]string, error)
	// Keys has the key of each node, by its name.
	Keys map[string]string
	// Logger gets a line for each request that was signed or refused.
	Logger *slog.Logger
}

// NewHandler returns cfssl's API, as far as a node needs it: authsign and info
// below /api/v1/cfssl/.
func NewHandler(o Options) (http.Handler, error) {
	s, err := newKeeperSigner(o)
	if err != nil {
		return nil, err
	}
	authsign, err := signhandler.NewAuthHandlerFromSigner(s)
	if err != nil {
		return nil, fmt.Errorf("prepare the signing API: %w", err)
	}
	about, err := infohandler.NewHandler(s)
	if err != nil {
		return nil, fmt.Errorf("prepare the signing API: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /api/v1/cfssl/authsign", refusals(o.Logger, http.MaxBytesHandler(authsign, maxRequest)))
	mux.Handle("POST /api/v1/cfssl/info", http.MaxBytesHandler(about, maxRequest))
	return mux, nil
}

// keeperSigner gives cfssl's handlers a keeper in cfssl's words. Of a request
// only the key and the name constraints in it count; all else is larder's.
type keeperSigner struct {
	options Options
	policy  *config.Signing
	limits  map[string]*rate.Limiter
}

func newKeeperSigner(o Options) (*keeperSigner, error) {
	// cfssl takes the default profile for a name that it does not know. Nobody
	// has the key of this one.
	nobody := make([]byte, minKey)
	rand.Read(nobody) // never fails
	profile, err := profileOf(hex.EncodeToString(nobody))
	if err != nil {
		return nil, err
	}
	s := &keeperSigner{
		options: o,
		policy:  &config.Signing{Default: profile, Profiles: make(map[string]*config.SigningProfile)},
		limits:  make(map[string]*rate.Limiter),
	}
	for node, key := range o.Keys {
		if s.policy.Profiles[node], err = profileOf(key); err != nil {
			return nil, fmt.Errorf("node %q: %w", node, err)
		}
		s.limits[node] = rate.NewLimiter(rate.Every(signPause), signBurst)
	}
	return s, nil
}

func profileOf(key string) (*config.SigningProfile, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	provider, err := auth.New(key, nil)
	if err != nil {
		return nil, errors.New("the key does not serve")
	}
	return &config.SigningProfile{Provider: provider, Expiry: time.Hour, Usage: []string{"cert sign"}}, nil
}

// Sign is called when the request is known to be that of the node whose name is
// its profile.
func (s *keeperSigner) Sign(req signer.SignRequest) ([]byte, error) {
	node := req.Profile
	limit := s.limits[node]
	if limit == nil {
		return nil, errors.New("no such node")
	}
	if !limit.Allow() {
		s.options.Logger.Warn("node asks for too many certificates", "node", node)
		return nil, fmt.Errorf("too many requests: one in %v is signed", signPause)
	}
	permitted, err := s.options.Permitted()
	if err == nil {
		var answer []byte
		if answer, err = s.options.Keeper.IssueNode(node, []byte(req.Request), permitted, nil); err == nil {
			s.options.Logger.Info("signed an intermediate certificate", "node", node)
			return answer, nil
		}
	}
	s.options.Logger.Error("request not signed", "node", node, "err", err)
	return nil, err
}

// Info returns all roots that clients are to trust, where cfssl has one.
func (s *keeperSigner) Info(info.Req) (*info.Resp, error) {
	status, err := s.options.Keeper.Status()
	if err != nil {
		s.options.Logger.Error("roots cannot be read", "err", err)
		return nil, errors.New("the roots cannot be read: see the log of the signer")
	}
	var roots bytes.Buffer
	for _, root := range status.Roots {
		pem.Encode(&roots, &pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}) // cannot fail
	}
	return &info.Resp{Certificate: roots.String(), Usage: []string{"cert sign"}, ExpiryString: ""}, nil
}

// Policy has a profile for each node.
func (s *keeperSigner) Policy() *config.Signing { return s.policy }

// SigAlgo is the keeper's business.
func (s *keeperSigner) SigAlgo() x509.SignatureAlgorithm { return x509.UnknownSignatureAlgorithm }

// The rest of cfssl's interface means nothing here.

func (s *keeperSigner) SetPolicy(*config.Signing)                  {}
func (s *keeperSigner) SetDBAccessor(certdb.Accessor)              {}
func (s *keeperSigner) GetDBAccessor() certdb.Accessor             { return nil }
func (s *keeperSigner) SetReqModifier(func(*http.Request, []byte)) {}

// ReadKeys reads the file of nodes: a name and a key on each line, blank lines
// and those that begin with "#" aside. Nobody but its owner may read it.
func ReadKeys(path string) (map[string]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o, and the keys in it are secrets: chmod 600 %s", path, perm, path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("read the nodes in %s: %w", path, err)
	}
	return keys, nil
}

func parseKeys(data []byte) (map[string]string, error) {
	keys := make(map[string]string)
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) != 2 {
			return nil, fmt.Errorf("line %d: write NAME KEY", n)
		}
		if _, twice := keys[fields[0]]; twice {
			return nil, fmt.Errorf("line %d: node %q was there already", n, fields[0])
		}
		if err := checkKey(fields[1]); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		keys[fields[0]] = fields[1]
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, errors.New("there is none")
	}
	return keys, nil
}
