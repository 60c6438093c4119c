package tests

import (
	"path/filepath"
	"regexp"
	"testing"
)

func matrixPython() []matrixRow {
	distrust := regexp.MustCompile(`CERTIFICATE_VERIFY_FAILED`)
	uv := pipClient()
	uv.name, uv.needs = "uv", []string{"uv"}
	uv.fetch = func(_ *testing.T, dir string) command {
		return command{dir: dir, argv: []string{"uv", "pip", "install", "--target", filepath.Join(dir, "site"), "larder-demo"}}
	}
	pip := pipClient()
	inner := pip.fetch
	pip.fetch = func(t *testing.T, dir string) command {
		cmd := inner(t, dir)
		cmd.argv = append(cmd.argv, "--retries", "0", "--disable-pip-version-check")
		return cmd
	}
	return []matrixRow{
		matrixOf(pip, matrixRow{host: pypiIndexHost, version: []string{"pip", "--version"}, distrust: distrust}),
		matrixOf(uv, matrixRow{
			client: "uv", optional: true, host: pypiIndexHost, version: []string{"uv", "--version"},
			distrust: regexp.MustCompile(`invalid peer certificate: UnknownIssuer`),
		}),
		scriptRow(matrixRow{
			client: "Python urllib", needs: []string{"python3"}, version: []string{"python3", "--version"}, distrust: distrust,
		}, "get.py", "import sys, urllib.request\nprint(urllib.request.urlopen(sys.argv[1]).read().decode())\n", "python3"),
		scriptRow(matrixRow{
			client: "Python requests", needs: []string{"/usr/bin/python3"}, distrust: distrust,
			version: []string{"/usr/bin/python3", "-c", "import requests; print(requests.__version__)"},
		}, "get.py", "import sys, requests\nprint(requests.get(sys.argv[1]).text)\n", "/usr/bin/python3"),
		scriptRow(matrixRow{
			client: "Python httpx", needs: []string{"/usr/bin/python3"}, optional: true, distrust: distrust,
			version: []string{"/usr/bin/python3", "-c", "import httpx; print(httpx.__version__)"},
		}, "get.py", "import sys, httpx\nprint(httpx.get(sys.argv[1]).text)\n", "/usr/bin/python3"),
		scriptRow(matrixRow{
			client: "Python aiohttp", needs: []string{"/usr/bin/python3"}, optional: true, distrust: distrust,
			version: []string{"/usr/bin/python3", "-c", "import aiohttp; print(aiohttp.__version__)"},
			more: &matrixMore{
				text:       "`ClientSession(trust_env=True)` in the program: else it reads no variable of the proxy",
				pastLarder: true,
				apply: func(_ *testing.T, c command, _ map[string]string, _ bool) command {
					c.argv = append(c.argv, "trust_env")
					return c
				},
			},
		}, "get.py", aiohttpScript, "/usr/bin/python3"),
	}
}

const aiohttpScript = `import aiohttp, asyncio, sys
async def main():
    async with aiohttp.ClientSession(trust_env=len(sys.argv) > 2) as session:
        async with session.get(sys.argv[1]) as response:
            print(await response.text())
asyncio.run(main())
`
