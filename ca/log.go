package ca

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// logFile has one line of JSON for each certificate that the root has signed.
const logFile = "issued.log"

// Kinds of certificates in the log.
const (
	KindRoot         = "root"         // signed by itself
	KindIntermediate = "intermediate" // signs leaves
	KindCross        = "cross"        // the new root's key, signed by the old root
	KindSigner       = "signer"       // the server certificate of "larder ca serve"
)

// An Entry of the log is one certificate that was signed.
type Entry struct {
	Time      time.Time `json:"time"`
	Kind      string    `json:"kind"`
	Node      string    `json:"node,omitempty"` // whom it is for, "" for this larder
	Subject   string    `json:"subject"`
	Serial    string    `json:"serial"` // hexadecimal
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// Permitted are the names and prefixes it is constrained to; null if it is
	// constrained to none.
	Permitted   []string `json:"permitted"`
	SHA256      string   `json:"sha256"`      // of the certificate
	Issuer      string   `json:"issuer"`      // subject of the signer
	Certificate []byte   `json:"certificate"` // DER
}

// record writes a certificate into the log, and the log onto the disk. It comes
// before the certificate is handed out: one that is in the log and was lost in a
// crash does no harm, one that serves and is not in the log does.
func (f *folder) record(kind, node string, cert *x509.Certificate) error {
	entry := Entry{
		Time: time.Now().UTC(), Kind: kind, Node: node,
		Subject: cert.Subject.CommonName, Serial: fmt.Sprintf("%x", cert.SerialNumber),
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
		SHA256: fmt.Sprintf("%x", sha256.Sum256(cert.Raw)), Issuer: cert.Issuer.CommonName,
		Certificate: cert.Raw,
	}
	if kind == KindIntermediate {
		entry.Permitted = constraintsOf(cert).list()
	}
	line, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("write the log of certificates: %w", err)
	}
	if err := f.appendLine(line); err != nil {
		return &FileError{f.join(logFile), "cannot be written, and nothing is signed that is not in it", writeRemedy(f.path), err}
	}
	return nil
}

func (f *folder) appendLine(line []byte) error {
	file, err := f.root.OpenFile(logFile, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && info.Size() > 0 {
		// A crash may have cut the last line; ours is to be whole.
		var last [1]byte
		if _, err = file.ReadAt(last[:], info.Size()-1); last[0] != '\n' {
			line = append([]byte("\n"), line...)
		}
	}
	if err == nil {
		err = f.own(file)
	}
	if err == nil {
		_, err = file.Write(append(line, '\n'))
	}
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil && info.Size() == 0 {
		err = syncDir(f.path)
	}
	return err
}

// readLog returns the entries of the log, oldest first, and how many lines a
// crash has cut.
func (f *folder) readLog() (entries []Entry, broken int, err error) {
	data, err := f.read(logFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	entries, broken = parseLog(data)
	return entries, broken, nil
}

func parseLog(data []byte) (entries []Entry, broken int) {
	for line := range bytes.Lines(data) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var entry Entry
		if err := json.Unmarshal(line, &entry); err != nil {
			broken++
			continue
		}
		entries = append(entries, entry)
	}
	return entries, broken
}
