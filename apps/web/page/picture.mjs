// A picture's pixels as the network takes them, resized exactly as Pillow's bicubic filter does (the same
// weights as mue_edge/inputs/image.py: resample_matrix), columns first, then rows, with rounding between.

import { turning, withoutOrientation } from "./webp.mjs";

/** Weights of one axis: for each output pixel the first input pixel and the weights from there on. */
export function resampleWeights(sizeIn, sizeOut) {
  const scale = sizeIn / sizeOut;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: sizeOut }, (_, i) => {
    const centre = (i + 0.5) * scale;
    // As Pillow does, pixels whose centre is outside of the rounded support are left out.
    const first = Math.max(Math.trunc(centre - 2 * stretch + 0.5), 0);
    const last = Math.min(Math.trunc(centre + 2 * stretch + 0.5), sizeIn);
    const weights = new Float64Array(last - first);
    let sum = 0;
    for (let x = first; x < last; x++) {
      sum += weights[x - first] = cubic(Math.abs(x + 0.5 - centre) / stretch);
    }
    return { first, weights: weights.map((w) => w / sum) };
  });
}

/** Keys' cubic with a = −1/2. */
function cubic(d) {
  if (d < 1) return (1.5 * d - 2.5) * d * d + 1;
  return d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
}

const grey = (value) => Math.min(255, Math.max(0, Math.floor(value + 0.5)));

/** Takes a picture strip by strip, so that no more than a strip of it needs to be decoded at once. */
export class Resizer {
  constructor(width, height, preprocess) {
    this.width = width;
    this.height = height;
    this.out = preprocess;
    this.across = resampleWeights(width, preprocess.width);
    this.columns = new Uint8Array(height * preprocess.width * 3);
    this.row = 0;
  }

  /** Opaque RGBA rows, the next from the top. */
  push(rgba) {
    const rows = rgba.length / (4 * this.width);
    for (let y = 0; y < rows; y++, this.row++) {
      const start = y * this.width * 4;
      for (let x = 0; x < this.out.width; x++) {
        const { first, weights } = this.across[x];
        let r = 0, g = 0, b = 0, at = start + first * 4;
        for (let i = 0; i < weights.length; i++, at += 4) {
          r += weights[i] * rgba[at];
          g += weights[i] * rgba[at + 1];
          b += weights[i] * rgba[at + 2];
        }
        const to = (this.row * this.out.width + x) * 3;
        this.columns[to] = grey(r);
        this.columns[to + 1] = grey(g);
        this.columns[to + 2] = grey(b);
      }
    }
  }

  /** Resized bytes [H, W, 3]. */
  bytes() {
    const line = this.out.width * 3;
    const made = new Uint8Array(this.out.height * line);
    resampleWeights(this.height, this.out.height).forEach(({ first, weights }, y) => {
      for (let x = 0; x < line; x++) {
        let sum = 0;
        for (let i = 0; i < weights.length; i++) sum += weights[i] * this.columns[(first + i) * line + x];
        made[y * line + x] = grey(sum);
      }
    });
    return made;
  }

  /** The network's input: float32 [1, 3, H, W], (v / 255 − mean) / std by channel, each step in float32. */
  pixels() {
    const [mean, std] = [this.out.mean, this.out.std].map((values) => Float32Array.from(values));
    const bytes = this.bytes();
    const size = bytes.length / 3;
    const made = new Float32Array(bytes.length);
    for (let i = 0; i < bytes.length; i++) {
      const channel = i % 3;
      const value = Math.fround(Math.fround(bytes[i] / 255) - mean[channel]);
      made[channel * size + Math.trunc(i / 3)] = value / std[channel];
    }
    return made;
  }
}

const STRIP = 256; // rows: phones limit the size of a canvas, and memory
const MAX_PIXELS = 25_000_000; // as image.py
const MAX_BYTES = 256 * 2 ** 20;

/** Decode a file upright, without colour management, on white, and prepare it for the network. */
export async function prepare(blob, preprocess) {
  if (blob.size > MAX_BYTES) throw new Error("This file is larger than 256 MB.");
  const [file, orientation] = await withoutOrientation(blob);
  let bitmap;
  try {
    const upright = { colorSpaceConversion: "none", imageOrientation: "from-image" };
    bitmap = await createImageBitmap(file, upright);
  } catch {
    throw new Error("This file is not a picture that the browser can read. JPEG, PNG and WebP work.");
  }
  try {
    const { width, height } = orientation > 4 ? { width: bitmap.height, height: bitmap.width } : bitmap;
    if (width * height > MAX_PIXELS) throw new Error("This picture has more than 25 million pixels.");
    const resizer = new Resizer(width, height, preprocess);
    const canvas = new OffscreenCanvas(width, Math.min(STRIP, height));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "white";
    context.imageSmoothingEnabled = false;
    const [a, b, c, d, e, f] = turning(orientation, bitmap.width, bitmap.height);
    for (let y = 0; y < height; y += STRIP) {
      const rows = Math.min(STRIP, height - y);
      context.resetTransform();
      context.fillRect(0, 0, width, rows);
      context.setTransform(a, b, c, d, e, f - y);
      context.drawImage(bitmap, 0, 0);
      resizer.push(context.getImageData(0, 0, width, rows).data);
    }
    return resizer.pixels();
  } finally {
    bitmap.close();
  }
}
