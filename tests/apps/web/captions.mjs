// Runs a site's own engine under Node: `node captions.mjs SITE < jobs.json`. A job is {pixels: a file of
// float32, policy}, with a statement (and caption) where the site judges them, {rgba: a file of bytes, width,
// height}, with a policy to caption it too, or {memory: true}; prints an answer for each as JSON, {error} for a
// statement that cannot be judged.
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";
import { setFlagsFromString } from "node:v8";

// Node 20's V8 now and then dies of "unreachable code" when it takes back an inlined call of WebAssembly.
setFlagsFromString("--no-turbo-inline-js-wasm-calls");

// Every memory of WebAssembly, onnxruntime-web's and Pyodide's, for {memory: true}.
const memories = new Set();
const { Memory, instantiate } = WebAssembly;
WebAssembly.Memory = class extends Memory {
  constructor(limits) {
    // As iOS 16 and 17 do, where 1 GiB was given and 2 GiB were not (o1js#823, emscripten#19144).
    if (limits.shared && limits.maximum > 16384) throw new RangeError("Out of memory");
    super(limits);
    memories.add(this);
  }
};
WebAssembly.instantiate = async (...given) => {
  const made = await instantiate.apply(WebAssembly, given);
  for (const part of Object.values((made.instance ?? made).exports)) {
    if (part instanceof Memory) memories.add(part);
  }
  return made;
};
const COUNT = "import gc; gc.collect(); len(gc.get_objects())";

const site = pathToFileURL(`${process.argv[2]}/`);
const at = (path) => new URL(path, site);
const [{ start }, { Resizer }, { loadPyodide }, ort] = await Promise.all(
  ["page/engine.mjs", "page/picture.mjs", "pyodide/pyodide.mjs", "ort/ort.wasm.min.mjs"].map(
    (path) => import(at(path)),
  ),
);
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = at("ort/").href;
const read = async (path) => new Uint8Array(await readFile(at(path)));
const engine = await start({
  ort,
  loadPyodide,
  options: { indexURL: at("pyodide/").pathname },
  read: (path) => read(path).catch(() => null),
});
const answers = [];
for (const job of JSON.parse(await text(process.stdin))) {
  let pixels;
  if (job.rgba) {
    const resizer = new Resizer(job.width, job.height, engine.manifest.preprocess);
    resizer.push(await readFile(job.rgba));
    pixels = resizer.pixels();
    const seen = { bytes: Array.from(resizer.bytes()), pixels: Array.from(pixels) };
    answers.push({ ...seen, ...(job.policy && (await engine.caption(pixels, job.policy))) });
    continue;
  }
  if (job.memory) {
    const wasm = [...memories].reduce((sum, memory) => sum + memory.buffer.byteLength, 0);
    const { buffers, sessions } = engine.runtime;
    const python = engine.pyodide.runPython(COUNT);
    answers.push({ wasm, python, buffers: buffers.size, sessions: sessions.size });
    continue;
  }
  pixels = new Float32Array((await readFile(job.pixels)).buffer.slice(0));
  if (engine.task === "entail") {
    const judged = engine.entail(pixels, job.statement, job.policy, job.caption);
    answers.push(await judged.catch(({ message }) => ({ error: message })));
    continue;
  }
  const stream = [];
  const caption = await engine.caption(pixels, job.policy, (token) => stream.push(token));
  answers.push({ ...caption, stream });
}
const { policies, stacks } = engine;
const found = JSON.stringify({ answers, policies, stacks });
process.stdout.write(found, () => process.exit(0)); // not before a pipe has taken all of it
