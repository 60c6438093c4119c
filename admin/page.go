package admin

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"time"
)

//go:embed page.html
var pageText string

// parsePage parses what is embedded, so an error is a bug that every test sees.
func parsePage() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{"size": size}).Parse(pageText))
}

func (h *handler) page(w http.ResponseWriter, r *http.Request) {
	var text bytes.Buffer
	err := h.template.Execute(&text, struct {
		Stats
		Uptime          time.Duration
		Metrics, Reload bool
	}{
		Stats:   h.read(r.Context()),
		Uptime:  time.Since(h.o.Started).Truncate(time.Second),
		Metrics: h.o.Gatherer != nil,
		Reload:  h.o.Reloader != nil,
	})
	if err != nil {
		h.o.Logger.Error("render page", "err", err)
		http.Error(w, "the page could not be rendered", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = text.WriteTo(w)
}

// size renders bytes in binary units, as the configuration takes them.
func size(n int64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
