package admin

import (
	"net/http"
	"time"
)

// Doctor knows which clients do not trust larder. Its methods are called concurrently.
type Doctor interface {
	// Findings are newest first.
	Findings() []Finding
	// Clear forgets them and says how many there were.
	Clear() int
}

// Finding is a client that does not trust larder's certificate for a host. Its names
// are part of larder's interface.
type Finding struct {
	// Client is an address, User the name that it has proved, Run the command of
	// `larder run` that it belongs to.
	Client string `json:"client"`
	User   string `json:"user,omitempty"`
	Run    string `json:"run,omitempty"`
	// Host is the server name.
	Host string `json:"host"`
	// Tool is the likely program in a word, Title in a sentence; Basis says what that
	// rests on.
	Tool  string `json:"tool"`
	Title string `json:"title"`
	Basis string `json:"basis"`
	// JA4 is the fingerprint of its TLS, UserAgent that of its CONNECT.
	JA4       string `json:"ja4,omitempty"`
	UserAgent string `json:"user_agent,omitempty"`
	// Reason is the alert by which it refused, or what it did instead.
	Reason string `json:"reason"`
	// Count is how many handshakes it refused between First and Last.
	Count int64     `json:"count"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Mended is when it has trusted larder for this host since, Elsewhere when it last
	// did for another; Pinned: before it refused this one.
	Mended    time.Time `json:"mended,omitzero"`
	Elsewhere time.Time `json:"elsewhere,omitzero"`
	Pinned    bool      `json:"pinned,omitempty"`
	// TunnelledUntil is until when its connections to the host are tunnelled, by the rule
	// TunnelledBy.
	TunnelledUntil time.Time `json:"tunnelled_until,omitzero"`
	TunnelledBy    string    `json:"tunnelled_by,omitempty"`
	// Do says what to do about it, See where more of that is.
	Do  string `json:"do"`
	See string `json:"see"`
}

// Diagnosis is the answer to GET /api/v1/doctor.
type Diagnosis struct {
	Findings []Finding `json:"findings"`
}

// Cleared is the answer to DELETE /api/v1/doctor.
type Cleared struct {
	Cleared int `json:"cleared"`
}

func (h *handler) diagnose(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, Diagnosis{Findings: h.o.Doctor.Findings()})
}

func (h *handler) clearFindings(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, Cleared{Cleared: h.o.Doctor.Clear()})
}
