package kit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// fetchTimeout bounds a fetch in all.
	fetchTimeout = 30 * time.Second
	// maxRoots bounds what is read; a root has less than 3 KiB.
	maxRoots = 1 << 20
)

// StatusError is an answer that no kit gives.
type StatusError struct {
	URL  string
	Code int
}

// Error names the URL.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%s answers %d %s", e.URL, e.Code, http.StatusText(e.Code))
}

// FetchRoots returns what the kit at base (scheme, host and port) says are larder's
// roots, in PEM. Nothing of it is to be trusted before certs.Verify: neither plain
// HTTP nor TLS under a root that is not known yet proves anything.
func FetchRoots(ctx context.Context, base string) ([]byte, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, fmt.Errorf("%q is no URL of scheme, host and port", base)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	where := u.Scheme + "://" + u.Host + "/ca.pem"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	tr := &http.Transport{
		// Proxy is left out: the one in the environment may be this very larder,
		// which does not fetch from itself.
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true}, // the fingerprint decides
		MaxResponseHeaderBytes: 64 << 10,
	}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &StatusError{URL: where, Code: resp.StatusCode}
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxRoots+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", where, err)
	}
	if len(data) > maxRoots {
		return nil, errors.New(where + " is too large for roots")
	}
	return data, nil
}
