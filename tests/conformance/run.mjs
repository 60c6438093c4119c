// Runs the tests through a proxy and prints them with their results as JSON.
// Settings in the environment: SUITE, BASE (URL of the origin), PROXY (URL), CA (file
// with the certificate that the proxy's are signed by), ID (run one test, and dump
// its messages to standard error).
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { Headers, ProxyAgent, fetch } from 'undici'

const { SUITE, BASE, PROXY, CA, ID } = process.env
const base = new URL(BASE)

console.log = console.error

// Node's fetch ignores http_proxy. proxyTunnel off: http:// goes to the proxy in
// absolute form (RFC 9112, section 3.2.2) instead of through CONNECT.
const dispatcher = new ProxyAgent({
  uri: PROXY,
  proxyTunnel: false,
  allowH2: false,
  requestTls: CA ? { ca: fs.readFileSync(CA), servername: base.hostname } : undefined
})
globalThis.conformanceDispatcher = dispatcher

// To a request without Cache-Control or Pragma the Fetch standard adds no-cache under
// the cache modes that the suite asks for, and for conditional requests. The suite
// keeps that away by sending both with a value that means nothing, but in version
// 0.4.5 forgets to where a test has request fields of its own.
function proxied (url, init = {}) {
  const headers = new Headers(init.headers)
  for (const [name, value] of [['pragma', 'foo'], ['cache-control', 'nothing-to-see-here']]) {
    if (!headers.has(name)) headers.set(name, value)
  }
  return fetch(url, { dispatcher, ...init, headers })
}
globalThis.fetch = proxied

const engine = [path.join(SUITE, 'test-engine'), SUITE].find(dir => fs.existsSync(path.join(dir, 'client')))
const load = name => import(pathToFileURL(name))
const suites = [...(await load(path.join(SUITE, 'tests', 'index.mjs'))).default]
const surrogate = path.join(SUITE, 'tests', 'surrogate-control.mjs')
if (fs.existsSync(surrogate)) suites.push((await load(surrogate)).default) // as its cli.mjs does

const selected = suites
  .map(suite => ({ ...suite, tests: suite.tests.filter(test => !ID || test.id === ID) }))
for (const suite of selected) for (const test of suite.tests) test.dump = Boolean(ID)

const runner = await load(path.join(engine, 'client', 'runner.mjs'))
// 25 at a time, as newer versions do: with 100, two cores are too slow for tests that
// wait for less than three seconds.
const origin = BASE.replace(/\/$/, '')
if (engine === SUITE) await runner.runTests(selected, proxied, false, origin, 25)
else await runner.runTests(selected, false, origin, 25)

const results = runner.getResults()
const report = []
for (const suite of selected) {
  for (const test of suite.tests) {
    if (!(test.id in results)) continue
    const passed = results[test.id] === true
    report.push({
      id: test.id,
      name: test.name,
      suite: suite.name,
      kind: test.kind ?? 'required',
      depends: test.depends_on ?? [],
      passed,
      reason: passed ? '' : results[test.id].join(': ')
    })
  }
}
process.stdout.write(JSON.stringify(report), () => process.exit(0))
