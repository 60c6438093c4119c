// connect.js ROOT PORT NAME... prints for each name whether the handshake succeeds.
const [root, port, ...names] = process.argv.slice(2);
const tls = require('tls');
const ca = require('fs').readFileSync(root);
const connect = (name) => new Promise((done) => {
  const options = { host: '127.0.0.1', port: Number(port), ca };
  if (!require('net').isIP(name)) options.servername = name;
  const socket = tls.connect(options, () => { console.log(name, 'trusted'); socket.destroy(); done(); });
  socket.on('error', (e) => { console.log(name, 'refused:', e.code); done(); });
});
(async () => { for (const name of names) await connect(name); })();
