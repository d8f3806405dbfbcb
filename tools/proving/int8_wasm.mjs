// Runs segments in onnxruntime-web's WASM: node int8_wasm.mjs FOLDER; answers in FOLDER/answers.json.
import fs from "node:fs";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const ort = await import(pathToFileURL(`${folder}/ort.wasm.min.mjs`));
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmBinary = fs.readFileSync(`${folder}/ort-wasm-simd-threaded.wasm`);
const answers = {};
for (const [name, { port, fed }] of Object.entries(JSON.parse(fs.readFileSync(`${folder}/asked.json`)))) {
  const session = await ort.InferenceSession.create(fs.readFileSync(`${folder}/${name}.onnx`));
  const tensors = Object.entries(fed).map(([k, x]) => [k, new ort.Tensor("float32", Float32Array.from(x.data), x.shape)]);
  answers[name] = Array.from((await session.run(Object.fromEntries(tensors)))[port].data);
}
fs.writeFileSync(`${folder}/answers.json`, JSON.stringify(answers));
