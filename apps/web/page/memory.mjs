// How much memory onnxruntime-web may ask for. It makes a WebAssembly.Memory of at most 65,536 pages (4 GiB), shared
// even for one thread, with its first session; iOS 16 and 17 reserve the maximum at once and refuse so much.
const PAGE = 65536;
const MOST = 65536;
// 512 MiB: on an iPhone with iOS 16, 2 GiB were refused and 1 GiB was given (emscripten#19144, o1js#823).
const LEAST = 8192;
// What runs beside the weights, and how often a session may hold them while it is made.
const BASE = 256 * 2 ** 20;
const COPIES = 4;

/** Pages that are enough for a bundle's segments. */
export function pagesFor({ files }) {
  const segments = Object.entries(files).filter(([path]) => path.startsWith("segments/"));
  const bytes = segments.reduce((sum, [, file]) => sum + file.bytes, 0);
  return Math.min(MOST, Math.max(LEAST, Math.ceil((BASE + COPIES * bytes) / PAGE)));
}

/** What `make` resolves to; every memory that is made meanwhile has at most so many pages. */
export async function capped(pages, make) {
  const { Memory } = WebAssembly;
  WebAssembly.Memory = class extends Memory {
    constructor(limits) {
      super({ ...limits, maximum: Math.min(limits.maximum ?? pages, pages) });
    }
  };
  try {
    return await make();
  } finally {
    WebAssembly.Memory = Memory;
  }
}
