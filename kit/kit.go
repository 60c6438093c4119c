package kit

import (
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options say what a Kit is made of. Roots is required.
type Options struct {
	// Roots returns larder's roots in PEM, the one that signs first. It is called
	// for each request, concurrently.
	Roots func() []byte
	// Routes are answered besides the kit's own.
	Routes []Route
	// Logger gets one record per request. nil: none.
	Logger *slog.Logger
	// Registerer gets the collectors of this package. nil: none.
	Registerer prometheus.Registerer
}

// A Route is something to be had from the kit that another package makes.
type Route struct {
	// Path is that of the requests, as http.ServeMux has it without a method or
	// host: exact, or all below if it ends in a slash.
	Path string
	// Handler answers GET and HEAD; the kit refuses other methods. Neither the
	// client nor what it says of itself has been checked; Kit.Target reads Host.
	Handler http.Handler
	// Summary is a clause on what is there, for the list of what the kit has. "":
	// it is not in the list.
	Summary string
}

// Settings are what may change while a Kit is in use.
type Settings struct {
	// Enabled is false where every request is answered 404.
	Enabled bool
	// Proxy is the URL of the proxy that nodes shall use. "": the one that they
	// have fetched the kit from.
	Proxy string
	// NoProxy are hosts that nodes reach without it, as certs.Proxy has them.
	NoProxy []string
}

// Kit is the http.Handler. It is safe for concurrent use.
type Kit struct {
	o        Options
	mux      *http.ServeMux
	pages    *template.Template
	settings atomic.Pointer[Settings]
	requests *prometheus.CounterVec

	mu     sync.Mutex // guards the rest
	common *common
	until  time.Time // common is of the system's roots as they were; then they are read again
}

// New makes a Kit.
func New(o Options, s Settings) (*Kit, error) {
	if o.Roots == nil {
		return nil, errors.New("kit: Options.Roots is required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	requests, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	k := &Kit{o: o, mux: http.NewServeMux(), pages: parsePages(), requests: requests}
	k.Set(s)
	for _, f := range files() {
		k.mux.Handle(f.path, k.file(f))
	}
	for _, route := range o.Routes {
		k.mux.Handle(route.Path, route.Handler)
	}
	return k, nil
}

// Set replaces the settings.
func (k *Kit) Set(s Settings) { k.settings.Store(&s) }

// ServeHTTP answers a request in origin-form.
func (k *Kit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	counted := &statusWriter{ResponseWriter: w}
	route := k.serve(counted, r)
	k.requests.WithLabelValues(route, counted.code()).Inc()
	k.o.Logger.Info("kit", "method", r.Method, "path", route, "status", counted.status, "client", r.RemoteAddr)
}

// serve answers and returns which of a bounded set of paths it was.
func (k *Kit) serve(w http.ResponseWriter, r *http.Request) (route string) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !k.settings.Load().Enabled {
		refuse(w, http.StatusNotFound, "this is a proxy", "set it as http_proxy and https_proxy")
		return other
	}
	handler, pattern := k.mux.Handler(r)
	// ServeMux would redirect //ca.pem and the like, to a Location made of what it was sent.
	if pattern == "" || r.URL.Path != pattern && !strings.HasSuffix(pattern, "/") || pattern == "/" && r.URL.Path != "/" {
		k.notFound(w, r)
		return other
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "there is nothing here to change", "use GET, or set this proxy as http_proxy and https_proxy")
		return pattern
	}
	handler.ServeHTTP(w, r)
	return pattern
}
