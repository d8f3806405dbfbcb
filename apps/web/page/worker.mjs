// Holds the engine away from the page, so that the page answers while segments run.
import { start } from "./engine.mjs";
import { prepare } from "./picture.mjs";

const site = new URL("../", import.meta.url);
const at = (path) => new URL(path, site).href;
const tell = (kind, data = {}) => postMessage({ kind, ...data });

// What Pyodide and onnxruntime-web fetch is counted too, and told where it is missing: they may wait for ever.
const fetched = self.fetch.bind(self);
self.fetch = async (input, options) => {
  const response = await fetched(input, options);
  const { href } = new URL(input.url ?? input, self.location);
  if (!href.startsWith(site.href)) return response;
  const path = href.slice(site.href.length);
  if (!response.ok) tell("lacking", { path });
  if (!response.ok || !response.body) return response;
  const count = new TransformStream({
    transform(chunk, control) {
      tell("loaded", { path, bytes: chunk.length });
      control.enqueue(chunk);
    },
  });
  return new Response(response.body.pipeThrough(count), { status: response.status, headers: response.headers });
};

async function read(path) {
  const response = await fetch(at(path));
  if (response.status === 404) return null;
  if (!response.ok) throw new Error(`${path} could not be loaded (${response.status}).`);
  return new Uint8Array(await response.arrayBuffer());
}

async function load() {
  const [{ loadPyodide }, ort] = await Promise.all([
    import(at("pyodide/pyodide.mjs")),
    import(at("ort/ort.wasm.min.mjs")),
  ]);
  ort.env.wasm.numThreads = 1; // more need headers that plain servers do not send
  ort.env.wasm.wasmPaths = at("ort/");
  return start({
    ort,
    loadPyodide,
    options: { indexURL: at("pyodide/") },
    read,
    progress: (what, done, total) => tell("progress", { what, done, total }),
  });
}

const engine = load();
engine.then(
  ({ policies, stacks, manifest }) => tell("ready", { policies, stacks, model: manifest.name }),
  (problem) => tell("broken", { message: String(problem.message ?? problem) }),
);

// One picture after the other: buffers are shared. Of those that wait, only the newest is read.
let busy = false;
let waiting = null;

onmessage = ({ data }) => {
  waiting = data;
  if (!busy) next();
};

async function next() {
  busy = true;
  while (waiting) {
    const { id, blob, statement, caption, policy } = waiting;
    waiting = null;
    try {
      const ready = await engine;
      const began = performance.now();
      const pixels = await prepare(blob, ready.manifest.preprocess);
      const prepared = (performance.now() - began) / 1000;
      const made = await (ready.task === "entail"
        ? ready.entail(pixels, statement, policy, caption)
        : ready.caption(pixels, policy, (token) => tell("token", { id, ...token })));
      const seconds = { prepare: prepared, ...made.seconds, total: prepared + made.seconds.total };
      tell(ready.task, { id, ...made, seconds });
    } catch (problem) {
      tell("failed", { id, message: String(problem.message ?? problem) });
    }
  }
  busy = false;
}
