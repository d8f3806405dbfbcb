// The named buffers of a caption and the sessions that run on them: in a page, what targets/buffers.py,
// targets/tensors.py and targets/host.py are to Python. It follows requests and decides nothing.

// Large enough that softmax gives exactly zero, small enough for float16.
const HIDDEN = -1e4;
const HEAD_PORTS = ["top_ids", "top_values", "logsumexp", "eos"];
const ARRAYS = {
  float32: Float32Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int8: Int8Array,
  uint8: Uint8Array,
};
const WEIGHTS = "segments/weights.bin";

const count = (shape) => shape.reduce((a, b) => a * b, 1);

/** A bundle on onnxruntime-web. `files`: path in the bundle → Uint8Array, already checked. */
export class Runtime {
  constructor(ort, manifest, files) {
    this.ort = ort;
    this.manifest = manifest;
    this.files = files;
    this.rows = manifest.layout.rows;
    this.slots = manifest.layout.slots;
    this.buffers = new Map(); // name → ort.Tensor
    this.sessions = new Map();
    this.tables = new Map();
    this.placed = new Map(); // buffer → step that its biases are of
    this.hidden = null; // [S], added to cross_bias: HIDDEN where the source text is padding
  }

  /** Create every session, then let go of the files: each session has copied what it needs. */
  async load(progress = () => {}) {
    const names = Object.keys(this.manifest.segments);
    for (const [i, name] of names.entries()) {
      this.sessions.set(name, await this.#session(name));
      progress(i + 1, names.length);
    }
    for (const path of Object.keys(this.files)) {
      if (path.startsWith("segments/")) delete this.files[path];
    }
  }

  /** The picture to caption: Float32Array of [1, 3, H, W]. */
  setPixels(pixels) {
    const port = this.manifest.segments.stem.inputs.pixels;
    if (pixels.length !== count(port.shape)) {
      throw new Error(`the picture has ${pixels.length} values, this model takes ${port.shape.join(" × ")}`);
    }
    this.buffers.set("pixels", new this.ort.Tensor("float32", pixels, port.shape));
  }

  /** The text that a text branch reads, as ids; its padding is hidden. */
  setSource(ids) {
    const { manifest } = this;
    const { stacks } = manifest.layout;
    const reader = stacks.map((s) => (s.source === "text" ? s.stem : s.joins)).find((name) => name);
    const ports = manifest.segments[reader].inputs;
    const length = ports.ids.shape[0];
    this.#buffer("source_ids", ports.ids).data.fill(BigInt(manifest.search.pad)).set(ids.map(BigInt));
    this.#buffer("source_live", ports.live).data.fill(0).fill(1, 0, ids.length);
    const padding = new Float32Array(length).fill(HIDDEN, ids.length);
    const branch = stacks.filter((stack) => stack.source === "text").flatMap((stack) => stack.stages);
    for (const { name, constants } of branch) {
      const bias = this.#buffer(constants.bias, manifest.segments[name].inputs.bias).data;
      this.#constant(constants.bias).data.forEach((value, i) => {
        bias[i] = value + padding[i % length];
      });
    }
    this.hidden = new Float32Array(this.#constant("cross_bias").shape[2]);
    this.hidden.set(padding, this.hidden.length - length); // the picture's patches come first
    this.placed.delete("cross");
  }

  /** Run one segment; `request` and the answer are those of mue_edge/loop/protocol.py. */
  async execute(request) {
    const segment = this.manifest.segments[request.run];
    this.#before(request, segment);
    const feeds = {};
    for (const [port, name] of Object.entries(request.inputs)) {
      feeds[port] = this.#buffer(request.gather.length ? "fill_x" : name, segment.inputs[port]);
    }
    const made = await this.sessions.get(request.run).run(feeds, Object.keys(request.outputs));
    for (const [port, name] of Object.entries(request.outputs)) this.buffers.set(name, made[port]);
    for (const store of request.store) {
      if (store.port === "kv_rows") this.#storeRows(request, store);
    }
    return this.#answer(request);
  }

  async #session(name) {
    const { file, stack } = this.manifest.segments[name];
    const config = { disable_quant_qdq: "1" }; // Q/DQ pairs as the graph says, as on the host
    // A matrix-vector product gains nothing from packing and would copy its weights once more.
    if (this.rows === 1 && (stack === "decoder" || name === "head")) config.disable_prepacking = "1";
    return this.ort.InferenceSession.create(this.files[file], {
      executionProviders: ["wasm"],
      externalData: [{ path: "weights.bin", data: this.files[WEIGHTS] }], // a view: nothing is copied
      extra: { session: config },
    });
  }

  /** The buffer of that name, made at first use; constants come from the bundle. */
  #buffer(name, port) {
    let tensor = this.buffers.get(name);
    if (!tensor) {
      const constant = name.startsWith("constant:") && this.#constant(name.slice("constant:".length));
      const data = constant ? constant.data : new ARRAYS[port.dtype](count(port.shape));
      tensor = new this.ort.Tensor(port.dtype, data, constant ? constant.shape : port.shape);
      this.buffers.set(name, tensor);
    }
    if (tensor.dims.join() !== port.shape.join()) {
      throw new Error(`buffer ${name} has shape ${tensor.dims}, a segment wants ${port.shape}; export again`);
    }
    return tensor;
  }

  /** What a run needs in its input buffers: ids, kept and gathered rows, biases of the step. */
  #before(request, segment) {
    if (request.store.length && request.run === "head") this.#keep(request.store[0]);
    if (request.ids.length) {
      this.#buffer(request.inputs.ids, segment.inputs.ids).data.set(request.ids.map(BigInt));
    }
    if (request.gather.length) {
      const { data: states, dims } = this.buffers.get(request.inputs.x);
      const rows = this.#buffer("fill_x", segment.inputs.x).data;
      request.gather.forEach((row, i) => {
        rows.set(states.subarray(row * dims[1], (row + 1) * dims[1]), i * dims[1]);
      });
    }
    if (request.position) this.#place(request, segment);
  }

  /** Exit states of this step, for the layers that they skipped. */
  #keep(store) {
    const rows = this.buffers.get(store.port);
    const width = rows.dims[1];
    const port = { shape: [this.slots, width], dtype: rows.type };
    this.#buffer(store.buffer, port).data.set(rows.data, store.rows[0] * width);
  }

  /** kv_rows [n, Q, 2, d] to their places in slots [n, 2, M, d]. */
  #storeRows(request, store) {
    const decoder = request.run.replace("fill.", "decoder.");
    const { data: slots, dims } = this.#buffer(store.buffer, this.manifest.segments[decoder].inputs.slots);
    const { data: rows, dims: from } = this.buffers.get(request.outputs.kv_rows);
    const [layers, , places, width] = dims;
    for (let layer = 0; layer < layers; layer++) {
      store.rows.forEach((slot, i) => {
        for (let kv = 0; kv < 2; kv++) {
          const start = ((layer * from[1] + i) * 2 + kv) * width;
          slots.set(rows.subarray(start, start + width), ((layer * 2 + kv) * places + slot) * width);
        }
      });
    }
  }

  #answer(request) {
    const now = performance.now() / 1000;
    const data = (port) => this.buffers.get(request.outputs[port]).data;
    if (request.read.join() !== HEAD_PORTS.join()) {
      const scalars = Object.fromEntries(request.read.map((port) => [port, Array.from(data(port))]));
      return { scalars, candidates: [], now };
    }
    const [ids, values, total, eos] = HEAD_PORTS.map(data);
    const k = ids.length / this.rows;
    const candidates = [];
    for (let row = 0; row < this.rows; row++) {
      // Differences in float32, as the host forms them.
      const relative = (value) => Math.fround(value - total[row]);
      candidates.push([
        Array.from(ids.subarray(row * k, (row + 1) * k), Number),
        Array.from(values.subarray(row * k, (row + 1) * k), relative),
        relative(eos[row]),
      ]);
    }
    return { scalars: {}, candidates, now };
  }

  /** Position biases of this step: slot_bias [n, H, Q, M], own_bias [n, H, Q, Q], cross_bias [H, Q or 1, S]. */
  #place(request, segment) {
    const { step, ancestry } = request.position;
    const table = this.#constant(`self_bias.${request.run.split(".")[1]}`); // [n, H, T, T]
    const [layers, heads, length] = table.shape;
    const row = (head) => (head * length + step) * length; // head counts over layers too
    const slotBias = this.#buffer(request.inputs.slot_bias, segment.inputs.slot_bias).data;
    slotBias.fill(HIDDEN);
    for (let head = 0; head < layers * heads; head++) {
      ancestry.forEach((slots, query) => {
        slots.forEach((slot, i) => {
          slotBias[(head * this.rows + query) * this.slots + slot] = table.data[row(head) + i];
        });
      });
    }
    if (this.placed.get(request.inputs.slot_bias) !== step) {
      const ownBias = this.#buffer(request.inputs.own_bias, segment.inputs.own_bias).data;
      ownBias.fill(HIDDEN);
      for (let head = 0; head < layers * heads; head++) {
        for (let query = 0; query < this.rows; query++) {
          ownBias[(head * this.rows + query) * this.rows + query] = table.data[row(head) + step];
        }
      }
      this.placed.set(request.inputs.slot_bias, step);
    }
    if (this.placed.get("cross") !== step) {
      const { data: all, shape } = this.#constant("cross_bias"); // [T, H, S]
      const target = this.#buffer(request.inputs.cross_bias, segment.inputs.cross_bias);
      const [, queries, sources] = target.dims;
      for (let head = 0; head < shape[1]; head++) {
        const start = (step * shape[1] + head) * sources;
        let row = all.subarray(start, start + sources);
        if (this.hidden) row = row.map((bias, i) => bias + this.hidden[i]);
        for (let query = 0; query < queries; query++) {
          target.data.set(row, (head * queries + query) * sources);
        }
      }
      this.placed.set("cross", step);
    }
  }

  /** A constant of the bundle; value[n, h, i, j] = rows[n, index[i, j], h] where it has an index. */
  #constant(name) {
    if (!this.tables.has(name)) {
      const constant = this.manifest.constants[name];
      const rows = { data: this.#stored(constant), shape: constant.shape };
      this.tables.set(name, constant.index ? this.#expanded(rows, constant.index) : rows);
    }
    return this.tables.get(name);
  }

  #expanded(rows, indexName) {
    const entry = this.manifest.constants[indexName];
    const index = this.#stored(entry);
    const [layers, kinds, heads] = rows.shape;
    const data = new Float32Array(layers * heads * index.length);
    let at = 0;
    for (let layer = 0; layer < layers; layer++) {
      for (let head = 0; head < heads; head++) {
        for (const kind of index) data[at++] = rows.data[(layer * kinds + kind) * heads + head];
      }
    }
    return { data, shape: [layers, heads, ...entry.shape] };
  }

  #stored({ file, offset, shape, dtype }) {
    const bytes = this.files[file];
    const size = count(shape) * ARRAYS[dtype].BYTES_PER_ELEMENT;
    return new ARRAYS[dtype](bytes.slice(offset, offset + size).buffer);
  }
}
