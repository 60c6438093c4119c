package origin

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"strings"
)

// Git serves the bare repositories below root on one host over smart HTTP, with
// git's own http-backend.
func Git(s *Server, host, root string) error {
	h, err := GitBackend(root)
	if err != nil {
		return err
	}
	s.Handle(host, h)
	return nil
}

// GitBackend is git's own http-backend for the bare repositories below root.
func GitBackend(root string) (http.Handler, error) {
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return nil, fmt.Errorf("find git http-backend: %w", err)
	}
	return spooled(&cgi.Handler{
		Path: strings.TrimSpace(string(out)) + "/git-http-backend",
		Env: []string{
			"GIT_PROJECT_ROOT=" + root,
			"GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_NOSYSTEM=1",
			"GIT_CONFIG_GLOBAL=/dev/null",
			// The repositories belong to the test, whoever runs the backend.
			"GIT_CONFIG_COUNT=1",
			"GIT_CONFIG_KEY_0=safe.directory",
			"GIT_CONFIG_VALUE_0=*",
		},
	}), nil
}

// spooled gives a CGI program the length of a chunked body: it knows no other way to
// find the end.
func spooled(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength >= 0 {
			next.ServeHTTP(w, r)
			return
		}
		f, err := os.CreateTemp("", "body")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer os.Remove(f.Name())
		defer f.Close()
		n, err := io.Copy(f, r.Body)
		if err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		whole := r.Clone(r.Context())
		whole.Body, whole.ContentLength, whole.TransferEncoding = f, n, nil
		next.ServeHTTP(w, whole)
	})
}
