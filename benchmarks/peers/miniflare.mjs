// A Worker with KV on miniflare: `node miniflare.mjs PORT DIRECTORY`.
import { Miniflare } from "miniflare";

const [port, directory] = process.argv.slice(2);

const mf = new Miniflare({
  host: "127.0.0.1",
  port: Number(port),
  modules: true,
  kvNamespaces: ["KV"],
  kvPersist: directory,
  script: `
    export default {
      async fetch(request, env) {
        const path = new URL(request.url).pathname;
        if (path === "/") {
          const value = await env.KV.get("key");
          if (value === null) await env.KV.put("key", "x".repeat(100));
          return new Response(value);
        }
        const count = 2000;
        const started = Date.now();
        for (let i = 0; i < count; i++) {
          if (path === "/get") await env.KV.get("key");
          else await env.KV.put("key" + (i % 100), String(Math.random()).padStart(100, "x"));
        }
        return new Response(String((count * 1000) / (Date.now() - started)));
      },
    };
  `,
});
await mf.ready;
