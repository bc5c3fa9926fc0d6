// Asks an HTTPS server for small.txt, five times on one connection, twice at once.
const https = require('https');
const port = process.argv[2];
const get = (agent, id) => new Promise((resolve, reject) => https.get(
  { host: '127.0.0.1', port, path: `/small.txt?id=${id}`, agent, rejectUnauthorized: false },
  response => response.resume().on('end', resolve)).on('error', reject));
const converse = async name => {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
  for (let number = 0; number < 5; number++) await get(agent, `${name}${number}`);
  agent.destroy();
};
setTimeout(() => Promise.all(['a', 'b'].map(converse)).catch(error => { console.error(error); process.exit(1); }), 3000);
