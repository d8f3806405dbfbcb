// One bundle, one Pyodide, one onnxruntime-web: a caption or an answer from pixels. Knows neither page nor worker, so that
// tests run this very file under Node.
import { capped, pagesFor } from "./memory.mjs";
import { Runtime } from "./runtime.mjs";

const FOLDER = "/bundle";
const SMALL = ["manifest.json", "tokenizer.json"]; // session.py's FILES
const PIECE = 1 << 20;

/**
 * @param parts ort: onnxruntime-web, loadPyodide and its `options`, read(path): a file of the site as
 *   Uint8Array, or null where there is none; progress(what, done, total).
 */
export async function start({ ort, loadPyodide, options, read, progress = () => {} }) {
  progress("Python");
  const pyodide = await loadPyodide(options);
  pyodide.FS.writeFile("/mue_edge.zip", await read("python/mue_edge.zip"));
  pyodide.FS.mkdir(FOLDER);
  for (const name of SMALL) {
    const data = await read(`bundle/${name}`);
    if (data) pyodide.FS.writeFile(`${FOLDER}/${name}`, data);
  }
  pyodide.runPython("import sys; sys.path.insert(0, '/mue_edge.zip')");
  const python = pyodide.pyimport("mue_edge.apps.web.session");
  const session = plainly(() => python.PageSession(FOLDER));
  const manifest = plain(session.manifest());
  const files = {};
  for (const path of needed(manifest)) {
    progress("model");
    files[path] = await read(`bundle/${path}`);
    if (!files[path]) throw new Error(`the site lacks bundle/${path}; export it again`);
    check(pyodide, session, path, files[path]);
  }
  const runtime = new Runtime(ort, manifest, files);
  await capped(pagesFor(manifest), () => runtime.load((done, total) => progress("segments", done, total)));
  return new Engine(pyodide, session, runtime, manifest);
}

export class Engine {
  constructor(pyodide, session, runtime, manifest) {
    this.pyodide = pyodide;
    this.session = session;
    this.runtime = runtime;
    this.manifest = manifest;
    this.task = session.task();
    this.policies = plain(session.policies());
    this.stacks = plain(session.stacks());
  }

  /** Caption prepared pixels; `watch` sees {text, depth, seconds} after every token but the last. */
  caption(pixels, policy = null, watch = () => {}) {
    return this.#drive(() => {
      this.runtime.setPixels(pixels);
      return this.session.caption(policy ?? undefined);
    }, watch);
  }

  /** Whether prepared pixels show what a statement says; `caption` is of the picture, null where none is given. */
  entail(pixels, statement, policy = null, caption = null) {
    return this.#drive(() => {
      this.runtime.setPixels(pixels);
      const run = this.session.entail(statement, policy ?? undefined, caption ?? undefined);
      this.runtime.setSource(plain(run.source()));
      return run;
    });
  }

  /** Carry out the requests of the run that `begin` makes, to what it ends with. */
  async #drive(begin, watch = () => {}) {
    const began = performance.now();
    const since = () => (performance.now() - began) / 1000;
    const run = plainly(begin);
    const seconds = {};
    try {
      let step = plain(run.start());
      while (step.request) {
        const from = performance.now();
        const answer = await this.runtime.execute(step.request);
        const kind = step.request.run.split(".")[0];
        seconds[kind] = (seconds[kind] ?? 0) + (performance.now() - from) / 1000;
        const sent = this.pyodide.toPy(answer);
        step = plain(run.send(sent));
        sent.destroy();
        if (step.text !== undefined) watch({ text: step.text, depth: step.depth, seconds: since() });
      }
      if (step.error) throw new Error(step.error);
      return { ...(step.caption ?? step.entailment), seconds: { ...seconds, total: since() } };
    } finally {
      run.destroy();
    }
  }
}

/** What the page loads of a bundle: golden answers stay where they are. */
function needed(manifest) {
  return Object.keys(manifest.files).filter((p) => !p.startsWith("golden/") && !SMALL.includes(p));
}

function check(pyodide, session, path, data) {
  const digest = plainly(() => session.check(path));
  for (let at = 0; at < data.length; at += PIECE) {
    const piece = pyodide.toPy(data.subarray(at, at + PIECE));
    digest.update(piece);
    piece.destroy?.();
  }
  plainly(() => digest.finish());
  digest.destroy();
}

/** A Python object as JavaScript's own, and the Python one let go. */
function plain(proxy) {
  const value = proxy.toJs({ dict_converter: Object.fromEntries });
  proxy.destroy();
  return value;
}

/** Python's errors as their last line, which is what a user can read. */
function plainly(call) {
  try {
    return call();
  } catch (problem) {
    const line = String(problem.message ?? problem).trim().split("\n").pop();
    throw new Error(line.replace(/^[\w.]*(Error|Exception): /, ""));
  }
}
