// A TLS 1.3 peer for tests/interop: Node's tls module, which is the OpenSSL that it was built with. The one argument is
// an object: server, port, visits, psk (hex) and identity, and options for tls.connect or tls.createServer, in which
// ca, cert and key are names of files.
"use strict";
const fs = require("fs");
const tls = require("tls");

const wish = JSON.parse(process.argv[2]);
const options = { minVersion: "TLSv1.3", ...wish.options };
for (const name of ["ca", "cert", "key"]) {
  if (options[name] !== undefined) options[name] = fs.readFileSync(options[name]);
}
const psk = wish.psk === undefined ? undefined : Buffer.from(wish.psk, "hex");

function visit(session, left) {
  const socket = tls.connect({ ...options, host: "127.0.0.1", port: wish.port, session });
  socket.on("secureConnect", () => socket.write("GET / HTTP/1.0\r\n\r\n"));
  socket.on("session", (data) => (session = data));
  socket.on("data", (data) => process.stdout.write(data));
  socket.on("error", (error) => {
    console.log(String(error));
    process.exit(1);
  });
  socket.on("close", () => left > 1 && visit(session, left - 1));
}

function listen() {
  const server = tls.createServer(options, (socket) => {
    socket.on("error", (error) => console.log(String(error)));
    socket.once("data", () => socket.end("HTTP/1.0 200 OK\r\n\r\nthis is Node\n"));
  });
  server.on("tlsClientError", (error) => console.log(String(error)));
  server.listen(wish.port, "127.0.0.1");
}

if (wish.server) {
  if (psk) options.pskCallback = (_socket, identity) => (identity === wish.identity ? psk : null);
  listen();
} else {
  if (psk) {
    options.pskCallback = () => ({ psk, identity: wish.identity });
    options.checkServerIdentity = () => undefined; // who knows the key is the server
  }
  visit(undefined, wish.visits);
}
