package daemon

import "time"

// The control protocol is HTTP/1.1 with JSON on the Unix socket. It may change
// with every build: the first thing that a client learns is the daemon's build.
//
//	GET  /v1/status                 -> Status
//	POST /v1/end                    -> 200, or 409 while there are runs
//	POST /v1/runs          RunRequest -> opened, and then open as long as the run
//	POST /v1/runs/{id}/finish       -> Summary
//	GET  /v1/runs/{id}/exchanges    -> Exchange, one per line
//	GET  /v1/runs/{id}/har          -> HAR, of a run that asked for it
//	     /api/...                   what the Proxy answers as an API
//
// Anything but 200 has a refusal as its body.

// Status is what a daemon says of itself.
type Status struct {
	Build   string    `json:"build"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Runs    int       `json:"runs"`
	// Ending daemons take no more runs.
	Ending bool `json:"ending"`
}

// RunRequest says what a run is.
type RunRequest struct {
	// Label is for logs: the command's name.
	Label string `json:"label,omitempty"`
	// ExtraBundles are absolute paths of PEM files that the caller trusts
	// besides the system's roots, such as its own SSL_CERT_FILE.
	ExtraBundles []string `json:"extra_bundles,omitempty"`
	// Offline: the run's command gets what is stored, and nothing else.
	Offline bool `json:"offline,omitempty"`
	// HAR: requests and responses of the run are recorded.
	HAR bool `json:"har,omitempty"`
}

// TrustFiles are what the run's command needs to trust larder. Its fields are
// those of certs.Files, in their order, so that one converts to the other.
type TrustFiles struct {
	Dir, CA, Bundle, TrustStore, TrustStorePassword, AptConf, Wgetrc, PHPIni string
}

// opened is the first line of a run's stream.
type opened struct {
	ID    string     `json:"id"`
	Proxy string     `json:"proxy"`
	Files TrustFiles `json:"files"`
}

// refusal is an error on the wire.
type refusal struct {
	Code  string `json:"code"`
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

// Codes of refusals that the client acts upon.
const (
	codeEnding  = "ending"
	codeBusy    = "busy"
	codeUnknown = "unknown-run"
	codeFailed  = "failed"
)
