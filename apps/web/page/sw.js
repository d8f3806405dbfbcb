// Keeps the site for use without a network, and gives every response the page's security policy as a header,
// so that the worker is bound by it too. Files are kept as they are first asked for; `keep` fetches the rest.
const CACHE = "mue-edge-{{version}}";
const FILES = "{{files}}";
const SHELL = FILES.filter((path) => !/^(bundle|pyodide|ort|demo|python)\//.test(path));
const POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; " +
  "img-src 'self' blob:; style-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'";

const address = (path) => new URL(path, self.registration.scope).href;
const kept = new Set(FILES.map(address));

self.addEventListener("install", (event) => {
  // What cannot be had now is asked for again when it is needed: a page is never kept waiting for its icon.
  event.waitUntil(Promise.race([store(SHELL), new Promise((done) => setTimeout(done, 3000))]));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    caches.keys().then(async (names) => {
      const old = names.filter((name) => name.startsWith("mue-edge-") && name !== CACHE);
      await Promise.all(old.map((name) => caches.delete(name)));
      await self.clients.claim();
    }),
  );
});

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== self.location.origin) return;
  url.search = url.hash = "";
  if (url.href === self.registration.scope) url.pathname += "index.html";
  if (kept.has(url.href)) event.respondWith(answer(url.href));
});

self.addEventListener("message", (event) => {
  if (event.data === "keep") {
    event.waitUntil(
      store(FILES).then((lacking) => event.source.postMessage({ kept: true, lacking: lacking.filter(needed) })),
    );
  }
});

async function answer(href) {
  const cache = await caches.open(CACHE);
  return bound((await cache.match(href)) ?? (await fetched(cache, href)));
}

async function fetched(cache, href) {
  const response = await fetch(href, { cache: "no-cache" });
  if (response.ok) await cache.put(href, response.clone());
  return response;
}

/** Keep these files; settles to those that cannot be had. */
async function store(paths) {
  const cache = await caches.open(CACHE);
  const lacking = [];
  for (const path of paths) {
    const href = address(path);
    if (await cache.match(href)) continue;
    const response = await fetched(cache, href).catch(() => null);
    if (!response?.ok) lacking.push(path);
  }
  return lacking;
}

/** Whether the page cannot work without the file. */
function needed(path) {
  return !/^(demo\/|icon-|licences|app\.webmanifest)/.test(path);
}

function bound(response) {
  const headers = new Headers(response.headers);
  headers.set("Content-Security-Policy", POLICY);
  headers.delete("Content-Encoding");
  headers.delete("Content-Length");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
