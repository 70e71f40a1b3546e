// A Worker with KV under miniflare: node miniflare.mjs PORT DIRECTORY
//
// GET answers with one key's value; POST {work, ...} does a batch of KV operations inside the Worker.
import { Miniflare } from "miniflare";

const [port, directory] = process.argv.slice(2);

const script = `
async function batch(kv, { work, keys, pairs, prefixes, bodies }, queue) {
  switch (work) {
    case "get":
      for (const key of keys) await kv.get(key);
      return keys.length;
    case "put":
      for (const [key, value] of pairs) await kv.put(key, value);
      return pairs.length;
    case "put_at_once":
      await Promise.all(Array.from({ length: 256 }, async (_, task) => {
        for (let i = task; i < pairs.length; i += 256) await kv.put(...pairs[i]);
      }));
      return pairs.length;
    case "list":
      for (const prefix of prefixes) await kv.list({ prefix });
      return prefixes.length;
    case "store":
      await Promise.all(keys.map((url) => caches.default.put(url, new Response("x".repeat(1024), {
        headers: { "cache-control": "max-age=3600" },
      }))));
      return keys.length;
    case "send":
      for (const body of bodies) await queue.send(body);
      return bodies.length;
    case "match":
      for (const url of keys) await (await caches.default.match(url)).arrayBuffer();
      return keys.length;
  }
}

export default {
  async fetch(request, env) {
    if (request.method === "POST") {
      return new Response(String(await batch(env.KV, await request.json(), env.QUEUE)));
    }
    return new Response(await env.KV.get("key"));
  },
  async queue() {},
};
`;

const miniflare = new Miniflare({
  modules: true,
  script,
  compatibilityDate: "2026-06-01",
  host: "127.0.0.1",
  port: Number(port),
  kvNamespaces: ["KV"],
  queueProducers: { QUEUE: "bench" },
  queueConsumers: { bench: { maxBatchSize: 100, maxBatchTimeout: 0 } },
  kvPersist: `${directory}/kv`,
  cachePersist: `${directory}/cache`,
});
console.log(`Ready on ${await miniflare.ready}`);
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, async () => {
    await miniflare.dispose();
    process.exit(0);
  });
}
