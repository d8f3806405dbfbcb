// What the browser keeps of the site, by the service worker: the page works without one.

const PATIENCE = 4000; // ms
const workers = navigator.serviceWorker;

/** Forget what this browser has kept of the site: a damaged file would come back from there for ever. */
export async function forget() {
  for (const name of (await globalThis.caches?.keys()) ?? []) {
    if (name.startsWith("mue-edge-")) await caches.delete(name);
  }
}

/** Have the service worker keep the whole site. */
export function keep() {
  workers?.controller?.postMessage("keep");
}

/**
 * Start the service worker, and wait a while for it: what a page loads under its control is loaded once.
 * @param parts mayKeep(): whether the whole site may be kept yet; say(text): what the reader is told;
 *   kept(whole): the site is kept, whole or but for files that the server lacks.
 */
export async function offline(site, { mayKeep, say, kept }) {
  if (!workers) {
    say("Served without https, so the page does not work offline.");
    return;
  }
  workers.addEventListener("message", ({ data }) => {
    if (!data.kept) return;
    const [first] = data.lacking;
    say(first ? `Not ready for use without a network: the server lacks ${first}.` : "Ready for use without a network.");
    kept(!first);
  });
  workers.addEventListener("controllerchange", () => mayKeep() && keep()); // it may come late
  try {
    // A forced reload stays uncontrolled, and a server may hang.
    await Promise.race([controlled(site), new Promise((done) => setTimeout(done, PATIENCE))]);
  } catch {
    say("This browser does not keep the page for use offline.");
  }
}

async function controlled(site) {
  await workers.register(new URL("sw.js", site));
  await workers.ready;
  if (!workers.controller) {
    await new Promise((done) => workers.addEventListener("controllerchange", done, { once: true }));
  }
}
