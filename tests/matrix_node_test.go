package tests

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"larder/tests/origin"
)

// atLeast compares versions by their first two numbers.
func atLeast(version string, major, minor int) bool {
	parts := strings.Split(version, ".")
	a, _ := strconv.Atoi(parts[0]) // a version has numbers: installed
	b, _ := strconv.Atoi(parts[1])
	return a > major || a == major && b >= minor
}

// readsProxyVariables: Node, if NODE_USE_ENV_PROXY is set.
func readsProxyVariables(version string) bool {
	return atLeast(version, 24, 5) || strings.HasPrefix(version, "22.") && atLeast(version, 22, 21)
}

func matrixNode() []matrixRow {
	distrust := regexp.MustCompile(`SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_GET_ISSUER_CERT_LOCALLY|UNABLE_TO_VERIFY_LEAF_SIGNATURE|invalid peer certificate: UnknownIssuer|unable to get local issuer certificate|unable to verify the first certificate|self-signed certificate in certificate chain`)
	fetch := "fetch(process.argv[2]).then(r => r.text()).then(console.log).catch(e => { console.error(e.cause); process.exit(1) })\n"
	https := "require('https').get(process.argv[2], r => r.pipe(process.stdout)).on('error', e => { console.error(e.code); process.exit(1) })\n"
	old := func(version string) bool { return !readsProxyVariables(version) }
	noVariable := func() *matrixMore {
		return &matrixMore{
			text:       "Node 22.21, or 24.5: before, it reads no variable of the proxy; or an agent in the program (undici's `ProxyAgent`, `https-proxy-agent`). Roots it takes from `NODE_EXTRA_CA_CERTS`",
			pastLarder: true,
		}
	}
	node := func(client string, applies func(string) bool, more *matrixMore, text string) matrixRow {
		return scriptRow(matrixRow{
			client: client, needs: []string{"node"}, version: []string{"node", "--version"}, applies: applies, distrust: distrust, more: more,
		}, "get.cjs", text, "node")
	}
	other := func(name, client, registry string, applies func(string) bool, argv ...string) matrixRow {
		c := npmClient()
		c.registry = func(t *testing.T, s *origin.Server) []string {
			must(t, origin.NPM(s, registry,
				origin.Package{Name: "@larder/demo", Version: "1.0.0", Requires: []string{"larder-dep"}, Payload: 10},
				origin.Package{Name: "larder-dep", Version: "2.1.0", Payload: 10},
			))
			return nil
		}
		c.verify = func(t *testing.T, dir string, _ result) {
			wantFile(t, filepath.Join(dir, "node_modules/@larder/demo/ballast.bin"))
		}
		c.name, c.needs = client, []string{name}
		inner := c.fetch
		c.fetch = func(t *testing.T, dir string) command {
			cmd := inner(t, dir)
			writeFile(t, dir, ".npmrc", "")
			cmd.argv = argv
			return cmd
		}
		return matrixOf(c, matrixRow{
			optional: true, host: registry, version: []string{name, "--version"}, applies: applies, distrust: distrust,
		})
	}
	berry := other("yarn", "Yarn 2 and later", yarnHost, func(v string) bool { return atLeast(v, 2, 0) }, "yarn", "add", "@larder/demo")
	inner := berry.fetch
	berry.fetch = func(t *testing.T, dir string) command {
		cmd := inner(t, dir)
		// Or it looks for a project above, and sends a report of itself.
		writeFile(t, dir, "yarn.lock", "")
		writeFile(t, dir, ".yarnrc.yml", "nodeLinker: node-modules\nenableTelemetry: false\nnpmMinimalAgeGate: 0\n")
		return cmd
	}
	npm := npmClient()
	innerNPM := npm.fetch
	npm.fetch = func(t *testing.T, dir string) command { return innerNPM(t, dir).with("--fetch-retries=0") }
	return []matrixRow{
		matrixOf(npm, matrixRow{host: npmHost, version: []string{"npm", "--version"}, distrust: distrust}),
		other("pnpm", "pnpm", npmHost, nil, "pnpm", "add", "@larder/demo"),
		other("yarn", "Yarn 1", yarnHost, func(v string) bool { return !atLeast(v, 2, 0) }, "yarn", "add", "@larder/demo"),
		berry,
		other("bun", "bun", npmHost, nil, "bun", "add", "@larder/demo"),
		scriptRow(matrixRow{
			client: "deno", needs: []string{"deno"}, optional: true, version: []string{"deno", "--version"},
			distrust: regexp.MustCompile(`invalid peer certificate: UnknownIssuer`),
		}, "get.js", "console.log(await (await fetch(Deno.args[0])).text())\n", "deno", "run", "--allow-all"),
		node("Node fetch, from 22.21 or 24.5 on", readsProxyVariables, nil, fetch),
		node("Node https, from 22.21 or 24.5 on", readsProxyVariables, nil, https),
		node("Node fetch, before", old, noVariable(), fetch),
		node("Node https, before", old, noVariable(), https),
	}
}
