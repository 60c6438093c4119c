package remote

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cloudflare/cfssl/auth"
	"github.com/cloudflare/cfssl/config"
	"github.com/cloudflare/cfssl/info"
	"github.com/cloudflare/cfssl/signer"
	cfremote "github.com/cloudflare/cfssl/signer/remote"

	"larder/ca"
)

const (
	configFile = "signer.json"
	// patience is how long the signer may take for an answer.
	patience = 20 * time.Second
	// minKey is the least that a node's key has: 256 bits.
	minKey = 32
)

// A Config says where a node has its intermediate signed.
type Config struct {
	URL   string `json:"url"`   // https://host:port
	Node  string `json:"node"`  // this node's name there
	Key   string `json:"key"`   // this node's key there, 64 hexadecimal digits or more
	Roots string `json:"roots"` // PEM: who may vouch for the signer
}

// Check returns what is wrong with c.
func (c Config) Check() error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || strings.Contains(c.URL, ",") {
		return fmt.Errorf("%q is not the address of a signer: write https://host:port", c.URL)
	}
	if c.Node == "" {
		return errors.New("the node has no name")
	}
	if !x509.NewCertPool().AppendCertsFromPEM([]byte(c.Roots)) {
		return errors.New("there is no certificate in the PEM of the signer's root")
	}
	return checkKey(c.Key)
}

// checkKey says nothing of the key itself: errors are logged. cfssl would take
// the empty key, and read "env:" and "file:" in front of one.
func checkKey(key string) error {
	if raw, err := hex.DecodeString(key); err != nil || len(raw) < minKey {
		return fmt.Errorf("the key is not %d hexadecimal digits or more: make one with openssl rand -hex %d", 2*minKey, minKey)
	}
	return nil
}

// Load returns the configuration in an authority's folder, fs.ErrNotExist if it
// has none.
func Load(dir string) (Config, error) {
	path := filepath.Join(dir, configFile)
	info, err := os.Stat(path)
	if err != nil {
		return Config{}, err
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return Config{}, fmt.Errorf("%s has mode %04o, and the key in it is a secret: chmod 600 %s", path, perm, path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, err
	}
	var c Config
	if err = json.Unmarshal(data, &c); err == nil {
		err = c.Check()
	}
	if err != nil {
		return Config{}, fmt.Errorf("read %s: %w", path, err)
	}
	return c, nil
}

// Save writes the configuration into an authority's folder, which it makes at
// need, in one piece.
func (c Config) Save(dir string) error {
	if err := c.Check(); err != nil {
		return err
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := ca.MakeFolder(dir); err != nil {
		return err
	}
	folder, err := os.Stat(dir)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, "."+configFile+"-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // fails after the rename, as it should
	_, err = file.Write(append(data, '\n'))
	if err := errors.Join(err, ca.Own(file, folder), file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), filepath.Join(dir, configFile))
}

// A Signer asks another larder, or a cfssl that serves its API, to sign. It is a
// ca.Signer, for one authority: its methods are not to be called at once.
type Signer struct {
	dir    string
	config Config
}

// Open returns the signer that the configuration in an authority's folder names,
// or fs.ErrNotExist.
func Open(dir string) (*Signer, error) {
	c, err := Load(dir)
	if err != nil {
		return nil, err
	}
	return &Signer{dir, c}, nil
}

// Sign sends the request. If the answer has no root in it (that of cfssl has
// none), those of the configuration are added. Roots that the signer adds in a
// rotation vouch for it from then on: it says so over a connection that the
// roots of before have vouched for.
func (s *Signer) Sign(req signer.SignRequest) ([]byte, error) {
	client, cancel, err := s.client()
	if err != nil {
		return nil, err
	}
	defer cancel()
	answer, err := client.Sign(signer.SignRequest{Request: req.Request, Profile: s.config.Node})
	if err != nil {
		return nil, s.failure(err)
	}
	roots := selfSigned(answer)
	if roots == "" {
		return append(append(answer, '\n'), s.config.Roots...), nil
	}
	if roots != s.config.Roots {
		changed := s.config
		changed.Roots = roots
		if err := changed.Save(s.dir); err != nil {
			return nil, fmt.Errorf("keep the roots of the signer: %w", err)
		}
		s.config = changed
	}
	return answer, nil
}

// Info returns the roots that the signer has at present.
func (s *Signer) Info(req info.Req) (*info.Resp, error) {
	client, cancel, err := s.client()
	if err != nil {
		return nil, err
	}
	defer cancel()
	resp, err := client.Info(info.Req{Label: req.Label})
	if err != nil {
		return nil, s.failure(err)
	}
	return resp, nil
}

// client returns cfssl's, for one request that ends by itself: it knows of no
// timeout for an answer.
func (s *Signer) client() (*cfremote.Signer, context.CancelFunc, error) {
	provider, err := auth.New(s.config.Key, nil)
	if err != nil {
		return nil, nil, errors.New("the key of the node does not serve")
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(s.config.Roots))
	client, err := cfremote.NewSigner(&config.Signing{Default: &config.SigningProfile{
		RemoteName: "larder", RemoteServer: strings.TrimSuffix(s.config.URL, "/"),
		RemoteProvider: provider, RemoteCAs: pool,
	}})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	client.SetReqModifier(func(r *http.Request, _ []byte) { *r = *r.WithContext(ctx) })
	return client, cancel, nil
}

// selfSigned returns the roots among the certificates, in PEM.
func selfSigned(data []byte) string {
	var roots bytes.Buffer
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return roots.String()
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err == nil && bytes.Equal(cert.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(cert) == nil {
			pem.Encode(&roots, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}) // cannot fail
		}
	}
}
