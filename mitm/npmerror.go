package mitm

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// npmErrorWriter writes an error as npm and yarn show it: as the member error of a JSON
// object. Of another body they show nothing but the status.
type npmErrorWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *npmErrorWriter) WriteHeader(status int) { w.status = status }

// Write implements http.ResponseWriter. It is called once, with all of the text.
func (w *npmErrorWriter) Write(p []byte) (int, error) {
	body, err := json.Marshal(map[string]string{"error": strings.TrimSpace(string(p))})
	if err != nil {
		return 0, err
	}
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.ResponseWriter.WriteHeader(w.status)
	if _, err := w.ResponseWriter.Write(body); err != nil {
		return 0, err
	}
	return len(p), nil
}
