// An HTTPS server: certificate, key. Prints its port, then a line for each request: target, client's port.
const fs = require('fs'), https = require('https');
const [certificate, key] = process.argv.slice(2).map(name => fs.readFileSync(name));
const server = https.createServer({ cert: certificate, key, keepAliveTimeout: 60000 }, (request, response) => {
  console.log(`${request.url} ${request.socket.remotePort}`);
  response.end('x'.repeat(request.url.includes('big') ? 100000 : 3));
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
