package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/cloudflare/cfssl/api"
	cferrors "github.com/cloudflare/cfssl/errors"
)

// A SignerError says why a signer did not sign.
type SignerError struct {
	URL     string // of the signer
	Problem string // in its words, or those of the connection to it
	Remedy  string // what to do, or ""
}

func (e *SignerError) Error() string { return e.URL + ": " + e.Problem }

// Hint returns what to do about it, or "".
func (e *SignerError) Hint() string { return e.Remedy }

// failure takes an error of cfssl's client out of its wrappings, which are JSON inside
// of JSON.
func (s *Signer) failure(err error) error {
	e := &SignerError{URL: s.config.URL, Problem: err.Error()}
	if wrapped, ok := errors.AsType[*cferrors.Error](err); ok {
		e.Problem = messageOf(wrapped.Message)
	}
	if _, cause, ok := strings.Cut(e.Problem, "\": "); ok && strings.HasPrefix(e.Problem, "failed POST to ") {
		e.Problem = cause // of *url.Error, which names the URL as well
	}
	switch {
	case e.Problem == invalidToken:
		e.Problem = fmt.Sprintf("it does not know node %q by this key", s.config.Node)
		e.Remedy = "the line of this node in the file that 'larder ca serve --nodes' reads there has to have the same key; then SIGHUP there"
	case strings.Contains(e.Problem, "failed to verify certificate"):
		e.Remedy = "--signer-root is the root there: trust/ca.pem of its state folder; --host there names it as --signer does"
	case strings.Contains(e.Problem, "does not intercept"):
		e.Remedy = "add a rule for them to the policy of 'larder ca serve', or take it away here"
	}
	return e
}

// invalidToken is what cfssl answers where node and key do not belong together.
const invalidToken = "invalid token"

// messageOf returns the message in an answer of cfssl's API, or all of it.
func messageOf(body string) string {
	var answer api.Response
	if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Errors) == 0 {
		return body
	}
	return answer.Errors[0].Message
}

// refusals logs what was refused before it came to be signed, which is logged there:
// whoever tries keys is to be seen.
func refusals(logger *slog.Logger, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &recorder{ResponseWriter: w}
		h.ServeHTTP(answer, r)
		if answer.status >= 400 && answer.status < 500 {
			logger.Warn("request refused", "client", r.RemoteAddr, "status", answer.status, "reason", messageOf(string(answer.body)))
		}
	})
}

// recorder keeps the status of an answer, and the beginning of one that is an error.
type recorder struct {
	http.ResponseWriter
	status int
	body   []byte
}

// maxRecorded is more than an error of cfssl's has.
const maxRecorded = 1 << 10

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status >= 400 {
		r.body = append(r.body, b[:min(len(b), maxRecorded-len(r.body))]...)
	}
	return r.ResponseWriter.Write(b)
}
