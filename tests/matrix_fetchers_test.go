package tests

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"larder/tests/origin"
)

// page is what the rows fetch that have no registry of their own.
const page = "/index/tools.txt"

// pageRow is a row whose client fetches the page and prints it.
func pageRow(row matrixRow, argv ...string) matrixRow {
	row.host = artifactsHost
	row.registry = func(_ *testing.T, s *origin.Server) []string {
		origin.ServeArtifacts(s, artifactsHost)
		return nil
	}
	if row.fetch == nil {
		row.fetch = func(_ *testing.T, dir string) command { return command{dir: dir, argv: argv} }
	}
	if row.verify == nil {
		row.verify = func(t *testing.T, _ string, res result) {
			if !strings.Contains(res.stdout, "tools.txt, edition 0") {
				t.Errorf("client printed something else than the page: %v", res)
			}
		}
	}
	return row
}

// scriptRow is a pageRow whose command gets the script's path and the page's URL.
func scriptRow(row matrixRow, name, text string, argv ...string) matrixRow {
	row.fetch = func(t *testing.T, dir string) command {
		script := writeFile(t, dir, name, text)
		return command{dir: dir, argv: append(append([]string{}, argv...), script, artifactURL(page))}
	}
	return pageRow(row)
}

// with adds arguments behind the command's name.
func (c command) with(args ...string) command {
	c.argv = append(append([]string{c.argv[0]}, args...), c.argv[1:]...)
	return c
}

func matrixFetchers() []matrixRow {
	openssl := regexp.MustCompile(`unable to get local issuer certificate|certificate verify failed`)
	return []matrixRow{
		matrixOf(curlClient(), matrixRow{
			client: "curl, built with OpenSSL", version: []string{"curl", "--version"}, build: "OpenSSL",
			host: artifactsHost, distrust: openssl,
		}),
		matrixOf(curlClient(), matrixRow{
			client: "curl, built with GnuTLS", version: []string{"curl", "--version"}, build: "GnuTLS",
			host: artifactsHost, distrust: regexp.MustCompile(`server certificate verification failed`),
		}),
		scriptRow(matrixRow{
			client: "libcurl with GnuTLS, in a program", needs: []string{"python3"},
			version:  []string{"python3", "-c", libcurlVersion},
			distrust: regexp.MustCompile(`error 60`),
			more: &matrixMore{
				text: "`CURLOPT_CAINFO` in the program, or larder's root among the system's: `CURL_CA_BUNDLE` is read by the `curl` command and not by its library",
				apply: func(_ *testing.T, c command, vars map[string]string, trust bool) command {
					if trust {
						c.argv = append(c.argv, vars["CURL_CA_BUNDLE"])
					}
					return c
				},
			},
		}, "get.py", libcurlScript, "python3"),
		matrixOf(wgetClient(), matrixRow{
			host: artifactsHost, version: []string{"wget", "--version"},
			distrust: regexp.MustCompile(`is not trusted|unable to locally verify|cannot verify`),
		}),
		matrixOf(gitClient(), matrixRow{
			host: "git.test", version: []string{"git", "--version"},
			distrust: regexp.MustCompile(`server certificate verification failed|SSL certificate problem`),
		}),
		pageRow(matrixRow{
			client: "openssl s_client", needs: []string{"openssl"}, version: []string{"openssl", "version"},
			distrust: regexp.MustCompile(`unable to get local issuer certificate`),
			fetch: func(_ *testing.T, dir string) command {
				return command{
					dir: dir, stdin: "GET " + page + " HTTP/1.0\r\nHost: " + artifactsHost + "\r\n\r\n",
					argv: []string{"openssl", "s_client", "-quiet", "-verify_return_error", "-connect", artifactsHost + ":443", "-servername", artifactsHost},
				}
			},
			more: &matrixMore{
				text:       "`-proxy HOST:PORT`: it reads no variable for that; roots it takes from `SSL_CERT_FILE`",
				pastLarder: true,
				apply: func(_ *testing.T, c command, vars map[string]string, _ bool) command {
					c.argv = append(c.argv, "-proxy", strings.TrimPrefix(vars["https_proxy"], "http://"))
					return c
				},
			},
		}),
		pageRow(matrixRow{
			client: "Chromium", needs: []string{"chromium", "certutil"}, version: []string{"chromium", "--version"},
			distrust: regexp.MustCompile(`ERR_CERT_AUTHORITY_INVALID`),
			more: &matrixMore{
				text: "larder's root in the NSS database of the home: `certutil -A -d sql:$HOME/.pki/nssdb -t C,, -n larder -i ca.pem` (or a policy of the browser): " +
					"it reads no variable for that; the proxy it takes from the variables",
				apply: func(_ *testing.T, c command, vars map[string]string, trust bool) command {
					if trust {
						db := filepath.Join(c.dir, ".pki/nssdb")
						c.argv = append([]string{"sh", "-ec", `mkdir -p "$0"; certutil -N --empty-password -d sql:"$0"
							certutil -A -d sql:"$0" -t C,, -n larder -i "$1"; shift; exec "$@"`, db, vars["NODE_EXTRA_CA_CERTS"]}, c.argv...)
					}
					return c
				},
			},
		}, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
			"--disable-background-networking", "--disable-component-update", "--disable-sync", "--dump-dom", artifactURL(page)),
	}
}

// libcurlScript fetches a URL by libcurl itself, as programs in C do. With a third
// argument it sets CURLOPT_CAINFO.
const libcurlScript = `import ctypes, sys
curl = ctypes.CDLL("libcurl-gnutls.so.4")
curl.curl_easy_init.restype = ctypes.c_void_p
curl.curl_easy_setopt.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
curl.curl_easy_perform.argtypes = [ctypes.c_void_p]
easy = curl.curl_easy_init()
curl.curl_easy_setopt(easy, 10002, sys.argv[1].encode())  # CURLOPT_URL
if len(sys.argv) > 2:
    curl.curl_easy_setopt(easy, 10065, sys.argv[2].encode())  # CURLOPT_CAINFO
code = curl.curl_easy_perform(easy)
if code:
    sys.exit("error %d" % code)
`

const libcurlVersion = `import ctypes
curl = ctypes.CDLL("libcurl-gnutls.so.4")
curl.curl_version.restype = ctypes.c_char_p
print(curl.curl_version().decode())
`
