package origin

import "net/http"

// Tamper changes a byte of each body that the server sends from now on in answer to
// requests that match accepts; nil: of none any more. Lengths and header fields stay as
// they are, as when somebody has changed a file where it is kept.
func (s *Server) Tamper(match func(Exchange) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tamper = match
}

// tampering changes a bit of each write.
type tampering struct{ http.ResponseWriter }

// Write flips a bit in the middle of p.
func (t tampering) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return t.ResponseWriter.Write(p)
	}
	other := append([]byte(nil), p...)
	other[len(other)/2] ^= 1
	return t.ResponseWriter.Write(other)
}

// Unwrap lets http.ResponseController reach the connection.
func (t tampering) Unwrap() http.ResponseWriter { return t.ResponseWriter }
