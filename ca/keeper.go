package ca

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// A Keeper does to an authority's folder what its operator asks for: the root's
// making, its rotation, certificates for other nodes. Its methods may be called
// while an Authority serves from the folder, in this process or another; that
// one learns of it at its next Refresh. What is wrong with files is returned as
// *FileError.
type Keeper struct {
	// Dir is the folder of the authority's files.
	Dir string

	// Passphrase opens a root key that is encrypted, and encrypts those that
	// are made. Nil means that there is none.
	Passphrase func() ([]byte, error)

	// Bounded refuses a certificate from elsewhere that no name constraint bounds,
	// neither its own nor one above it.
	Bounded bool

	// rounds is how often a passphrase is hashed, 0 for sealRounds: tests have
	// nothing to keep from anybody.
	rounds int
}

// change does something to the folder, which must exist, under its lock, and
// returns what has become of it.
func (k Keeper) change(what string, do func(*folder) error) (Status, error) {
	silence()
	f, err := k.openExisting()
	if err != nil {
		return Status{}, fmt.Errorf("%s: %w", what, err)
	}
	defer f.close()
	if err := f.requireLock(what); err != nil {
		return Status{}, err
	}
	if err := do(f); err != nil {
		return Status{}, fmt.Errorf("%s: %w", what, err)
	}
	return f.status()
}

func (k Keeper) openExisting() (*folder, error) {
	if _, err := os.Stat(k.Dir); err != nil {
		path, _ := filepath.Abs(k.Dir)
		return nil, &FileError{path, "cannot be opened", "make an authority first: larder ca init", err}
	}
	return k.open()
}

func (k Keeper) open() (*folder, error) {
	f, err := openFolder(k.Dir)
	if err == nil {
		f.passphrase, f.rounds = k.Passphrase, k.rounds
	}
	return f, err
}

// Init makes a root in a folder that has none, and makes the folder.
func (k Keeper) Init() (Status, error) {
	return k.begin("make a certificate authority", createRoot)
}

// begin does something to a folder that has no authority yet.
func (k Keeper) begin(what string, do func(*folder) error) (Status, error) {
	silence()
	f, err := k.open()
	if err != nil {
		return Status{}, fmt.Errorf("%s: %w", what, err)
	}
	defer f.close()
	err = f.requireLock(what)
	if err == nil && (f.has("root.crt") || f.has(nodeFile)) {
		err = &FileError{f.path, "has an authority already", "see it: larder ca show; give it a new root: larder ca rotate; or name another state folder with --state", nil}
	}
	if err == nil {
		err = do(f)
	}
	if err != nil {
		return Status{}, fmt.Errorf("%s: %w", what, err)
	}
	return f.status()
}

// Renew makes a new intermediate for the names, which are as in Options, whether
// it is due or not.
func (k Keeper) Renew(dns []string, ips []netip.Prefix) (Status, error) {
	return k.change("renew the intermediate certificate", func(f *folder) error {
		wanted, err := newConstraints(dns, ips)
		if err != nil {
			return err
		}
		r, err := f.ownRoots()
		if err == nil {
			_, err = createIssuer(f, r, wanted)
		}
		return err
	})
}

// Request returns a request for an intermediate of this node, to be signed where
// the root is: by "larder ca issue-node --csr" or by a company's PKI. Its key
// waits in the folder for Install. The names are as in Options.
func (k Keeper) Request(dns []string, ips []netip.Prefix) ([]byte, error) {
	silence()
	wanted, err := newConstraints(dns, ips)
	if err != nil {
		return nil, fmt.Errorf("request an intermediate certificate: %w", err)
	}
	f, err := k.open()
	if err != nil {
		return nil, fmt.Errorf("request an intermediate certificate: %w", err)
	}
	defer f.close()
	if err := f.requireLock("keep the key of a request"); err != nil {
		return nil, err
	}
	return f.request(wanted)
}

// Install puts into use what came from where the root is: the intermediate, the
// certificates above it, the roots, and, if no request was made here, its key.
func (k Keeper) Install(data []byte) (Status, error) {
	silence()
	const what = "install an intermediate certificate"
	f, err := k.open()
	if err != nil {
		return Status{}, fmt.Errorf("%s: %w", what, err)
	}
	defer f.close()
	if err := f.requireLock(what); err != nil {
		return Status{}, err
	}
	if err := f.agrees(data); err != nil {
		return Status{}, fmt.Errorf("%s: %w", what, err)
	}
	if _, err := f.install(data, k.admits); err != nil {
		return Status{}, fmt.Errorf("%s: %w", what, err)
	}
	return f.status()
}

// admits refuses an intermediate of which a thief could make certificates for any host.
func (k Keeper) admits(i *issuer) error {
	bounds := func(c *x509.Certificate) bool { return !constraintsOf(c).unbounded }
	if !k.Bounded || slices.ContainsFunc(i.chain, bounds) {
		return nil
	}
	return &FileError{
		"the certificate", "has no name constraints: whoever steals its key can sign for any host, and the policy here opens some only",
		"have it signed with the extensions of the request ('larder ca init --csr' asks for them; openssl: -copy_extensions copyall); to take it none the less: --unconstrained", nil,
	}
}

// agrees refuses an answer from another root than the folder's own.
func (f *folder) agrees(data []byte) error {
	own, err := f.readCertificate("root.crt")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	b, err := parseBundle(data)
	if err != nil {
		return err
	}
	f.keepOverlap(&b)
	if !slices.ContainsFunc(b.certs, own.Equal) {
		return &FileError{f.join("root.crt"), "is another root than that of the certificate", fmt.Sprintf("to have clients go over to the other while both are trusted: larder ca rotate --install FILE; without that: mv %s %s.old", f.path, f.path), nil}
	}
	return nil
}

// IssueNode signs an intermediate for another node and returns what "larder ca
// init --install" takes there: with a key, or without one if csrPEM is the
// node's request. The names are as in Options; a request may ask for fewer.
func (k Keeper) IssueNode(node string, csrPEM []byte, dns []string, ips []netip.Prefix) ([]byte, error) {
	silence()
	data, err := k.issueNode(node, csrPEM, dns, ips)
	if err != nil {
		return nil, fmt.Errorf("issue an intermediate certificate for node %.80q: %w", node, err)
	}
	return data, nil
}

func (k Keeper) issueNode(node string, csrPEM []byte, dns []string, ips []netip.Prefix) ([]byte, error) {
	if !nodeName().MatchString(node) {
		return nil, errors.New("a node's name has letters, digits, hyphens and dots, 40 at most")
	}
	wanted, err := newConstraints(dns, ips)
	if err != nil {
		return nil, err
	}
	f, err := k.openExisting()
	if err != nil {
		return nil, err
	}
	defer f.close()
	if err := f.requireLock("log what is issued"); err != nil {
		return nil, err
	}
	var b bundle
	if csrPEM == nil {
		if csrPEM, b.keyPEM, err = newRequest(nil); err != nil {
			return nil, err
		}
	} else if wanted, err = narrowed(csrPEM, wanted); err != nil {
		return nil, err
	}
	r, err := f.ownRoots()
	if err != nil {
		return nil, err
	}
	root, err := f.unseal(r.current, "root.key")
	if err != nil {
		return nil, err
	}
	if root.key == nil {
		return nil, f.keyAbsent("the certificate of another node is to be signed")
	}
	cert, err := f.signIntermediate(root, csrPEM, node, wanted)
	if err != nil {
		return nil, err
	}
	b.certs = append(b.certs, cert)
	if r.cross != nil {
		b.certs = append(b.certs, r.cross)
	}
	b.certs = append(b.certs, r.anchors()...)
	return b.pem(), nil
}

func nodeName() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,39}$`) }

// narrowed returns what a request asks for, if that is allowed.
func narrowed(csrPEM []byte, allowed constraints) (constraints, error) {
	asked, err := askedFor(csrPEM)
	switch {
	case err != nil:
		return constraints{}, fmt.Errorf("read the request: %w", err)
	case asked.unbounded:
		return allowed, nil
	case !allowed.covers(asked):
		return constraints{}, &FileError{
			"the request", fmt.Sprintf("asks for names that the policy here does not intercept: %.500v", asked.beyond(allowed)),
			"add a rule for them here (--config), or take it away there", nil,
		}
	}
	return asked, nil
}

// beyond returns what c allows and o does not.
func (c constraints) beyond(o constraints) []string {
	return slices.DeleteFunc(c.list(), func(entry string) bool {
		one, err := newConstraints([]string{entry}, nil)
		return err == nil && o.covers(one)
	})
}

// ownRoots returns the roots of an authority that has its own.
func (f *folder) ownRoots() (roots, error) {
	if f.has(nodeFile) {
		return roots{}, &FileError{f.join(nodeFile), "says that the root is kept elsewhere", "do it there, with --state naming that folder", nil}
	}
	r, err := loadRoots(f)
	if errors.Is(err, fs.ErrNotExist) {
		err = &FileError{f.path, "has no authority", "make one: larder ca init", nil}
	}
	return r, err
}

// Log returns the certificates that the root has signed, oldest first, and how
// many lines of the log cannot be read: a crash may cut one.
func (k Keeper) Log() (entries []Entry, broken int, err error) {
	f, err := k.openExisting()
	if err != nil {
		return nil, 0, fmt.Errorf("read the log of certificates: %w", err)
	}
	defer f.close()
	return f.readLog()
}

// Status returns what the folder holds. It changes nothing but the leftovers of
// a crash.
func (k Keeper) Status() (Status, error) {
	f, err := k.openExisting()
	if err != nil {
		return Status{}, fmt.Errorf("look at the certificate authority: %w", err)
	}
	defer f.close()
	return f.status()
}

func encodeKey(key any) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
