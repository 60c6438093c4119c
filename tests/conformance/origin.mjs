// The origin server of the tests: the suite's own handlers, on loopback instead of
// on every address, over TLS when there is a certificate.
// Settings in the environment: SUITE, and KEY and CERT for TLS.
// Prints the port it listens on.
import fs from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const { SUITE, KEY, CERT } = process.env

// Newer versions of the suite keep what is not a test in a folder of its own.
const engine = [path.join(SUITE, 'test-engine'), SUITE].find(dir => fs.existsSync(path.join(dir, 'server')))
const load = async name => (await import(pathToFileURL(path.join(engine, 'server', name)))).default
const handlers = {
  config: await load('handle-config.mjs'),
  state: await load('handle-state.mjs'),
  test: await load('handle-test.mjs')
}

function handle (request, response) {
  const [, first, ...rest] = new URL(request.url, 'http://origin/').pathname.split('/')
  if (!(first in handlers)) {
    response.writeHead(404)
    response.end()
    return
  }
  handlers[first](rest, request, response)
}

// The suite warns on standard output; the port alone goes there.
console.log = console.error

const server = CERT
  ? https.createServer({ key: fs.readFileSync(KEY), cert: fs.readFileSync(CERT) }, handle)
  : http.createServer(handle)
server.listen(0, '127.0.0.1', () => process.stdout.write(`${server.address().port}\n`))
