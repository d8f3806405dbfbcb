// Runs a site's own engine under Node: `node captions.mjs SITE < jobs.json`. A job is {pixels: a file of
// float32, policy}, or {rgba: a file of bytes, width, height}; prints an answer for each as JSON.
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";

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
    answers.push({ bytes: Array.from(resizer.bytes()) });
    continue;
  }
  pixels = new Float32Array((await readFile(job.pixels)).buffer.slice(0));
  const stream = [];
  const caption = await engine.caption(pixels, job.policy, (token) => stream.push(token));
  answers.push({ ...caption, stream });
}
const { policies, depths } = engine;
const found = JSON.stringify({ answers, policies, depths });
process.stdout.write(found, () => process.exit(0)); // not before a pipe has taken all of it
