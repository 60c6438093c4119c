package kit

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// other is the path, in log and metrics, of whatever is not there.
const other = "other"

func newMetrics(registerer prometheus.Registerer) (*prometheus.CounterVec, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "larder_kit_requests_total",
		Help: "Requests to the kit on the proxy's own port, by path and status.",
	}, []string{"path", "status"})
	if registerer == nil {
		return requests, nil
	}
	return requests, registerer.Register(requests)
}

// statusWriter notes which status was sent.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) code() string { return strconv.Itoa(w.status) }
