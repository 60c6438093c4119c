package kit

import (
	"fmt"
	"net/http"
	"strings"
)

// refuse answers with what is wrong and what to do about it.
func refuse(w http.ResponseWriter, status int, problem, hint string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintf(w, "larder: error: %s\nlarder: hint: %s\n", problem, hint)
}

// notFound lists what there is.
func (k *Kit) notFound(w http.ResponseWriter, r *http.Request) {
	var paths []string
	for _, f := range files() {
		if f.path != "/" {
			paths = append(paths, f.path)
		}
	}
	for _, route := range k.o.Routes {
		if route.Summary != "" {
			paths = append(paths, route.Path)
		}
	}
	refuse(w, http.StatusNotFound, fmt.Sprintf("there is no %.80q here", r.URL.Path),
		"this is a proxy, to be set as http_proxy and https_proxy; for nodes it has "+strings.Join(paths, " "))
}
