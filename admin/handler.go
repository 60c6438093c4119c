package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is one thing without which larder should get no traffic.
type Check struct {
	// Name is one word for answers, such as "store".
	Name string
	// Ready returns why not, or nil. It is called for each request, concurrently,
	// and returns soon after ctx is done.
	Ready func(ctx context.Context) error
	// Advisory: larder does its work all the same, only worse. /-/ready then shows
	// it as a warning and stays 200, so that a balancer does not take away all
	// larders for a trouble that they share.
	Advisory bool
}

// Store says how full the store is.
type Store interface {
	// Usage is called for each request, concurrently, and must be cheap.
	Usage() Usage
}

// Usage of the store.
type Usage struct {
	Objects int64 `json:"objects"`
	// Bytes on disk, and the most that there may be; 0: no limit.
	Bytes    int64 `json:"bytes"`
	MaxBytes int64 `json:"max_bytes"`
}

// Reloader reads the policy again.
type Reloader interface {
	// Reload returns all that is wrong with the new policy, in which case the old
	// one stays. Safe for concurrent use.
	Reload(ctx context.Context) error
}

// Options say what the handler answers with. Every field's zero value works.
type Options struct {
	// Version of larder, for people.
	Version string
	// Started is when this process began; zero: when New was called.
	Started time.Time
	// Checks decide on /-/ready. None: always ready.
	Checks []Check
	// Store for the statistics; nil: none are shown.
	Store Store
	// StoreAPI behind /api/v1/store.
	StoreAPI StoreAPI
	// Wheels behind /api/v1/wheels, which asks for the token too; nil: 404.
	Wheels WheelAPI
	// Token that the store API asks for as "Authorization: Bearer"; it can read,
	// change and poison what is stored. "": none, for a listener that only its owner
	// reaches, such as a Unix socket in a private folder.
	Token string
	// Ledger behind /api/v1/ledger, which asks for the token too; nil: 404.
	Ledger Ledger
	// Doctor behind /api/v1/doctor, which asks for the token too: it says who fetches
	// from where. nil: 404.
	Doctor Doctor
	// Capturer behind GET /api/v1/har, which asks for the token too; nil: 404.
	Capturer Capturer
	// Reloader behind POST /-/reload; nil: 404.
	Reloader Reloader
	// Gatherer behind /metrics; nil: 404.
	Gatherer prometheus.Gatherer
	// Hosts are names under which this listener may be addressed, besides
	// addresses, localhost and the machine's own name.
	Hosts []string
	// Logger; nil: none.
	Logger *slog.Logger
}

// metricsAtOnce bounds concurrent scrapes, each of which holds all metrics.
const metricsAtOnce = 4

// New makes the handler. Give it to Serve, which takes care of the rest.
func New(o Options) http.Handler {
	if o.Started.IsZero() {
		o.Started = time.Now()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &handler{o: o, template: parsePage()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", h.page)
	mux.HandleFunc("GET /-/healthy", h.healthy)
	mux.HandleFunc("GET /-/ready", h.ready)
	mux.HandleFunc("GET /api/v1/stats", h.stats)
	if o.Gatherer != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{
			ErrorLog:            slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
			MaxRequestsInFlight: metricsAtOnce,
			EnableOpenMetrics:   true,
		}))
	}
	if o.Reloader != nil {
		mux.HandleFunc("POST /-/reload", h.reload)
	}
	if o.Doctor != nil {
		mux.Handle("GET /api/v1/doctor", withToken(o.Token, http.HandlerFunc(h.diagnose)))
		mux.Handle("DELETE /api/v1/doctor", withToken(o.Token, http.HandlerFunc(h.clearFindings)))
	}
	if o.Capturer != nil {
		mux.Handle("GET /api/v1/har", withToken(o.Token, http.HandlerFunc(h.capture)))
	}
	(&storeHandler{api: o.StoreAPI}).routes(mux, o.Token)
	(&ledgerHandler{o.Ledger}).routes(mux, o.Token)
	(&wheelHandler{api: o.Wheels}).routes(mux, o.Token)
	protected := http.NewCrossOriginProtection().Handler(mux)
	return &root{
		Handler: checkHost(allowedHosts(o.Hosts), withHeaders(protected)),
		logger:  o.Logger,
	}
}

// root is a handler that brings its logger to Serve, which waits for its requests.
type root struct {
	http.Handler
	logger *slog.Logger
	active sync.RWMutex // held shared by requests
}

// ServeHTTP implements http.Handler.
func (r *root) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.active.RLock()
	defer r.active.RUnlock()
	r.Handler.ServeHTTP(w, req)
}

type handler struct {
	o        Options
	template *template.Template
}

func (h *handler) healthy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "healthy")
}

func (h *handler) ready(w http.ResponseWriter, r *http.Request) {
	state := h.readiness(r.Context())
	status := http.StatusOK
	if !state.Ready {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, state)
}

func (h *handler) stats(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, h.read(r.Context()))
}

func (h *handler) reload(w http.ResponseWriter, r *http.Request) {
	// A client that goes away does not leave half a policy behind.
	err := h.o.Reloader.Reload(context.WithoutCancel(r.Context()))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "reloaded")
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	// The only error left is that the client has gone.
	_ = enc.Encode(v)
}
