package origin

import (
	"fmt"
	"net/http/cgi"
	"os/exec"
	"strings"
)

// Git serves the bare repositories below root on one host over smart HTTP, with
// git's own http-backend.
func Git(s *Server, host, root string) error {
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return fmt.Errorf("find git http-backend: %w", err)
	}
	s.Handle(host, &cgi.Handler{
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
	})
	return nil
}
