// A WebP's EXIF orientation. Chromium leaves it out and other browsers may not, so it is taken out of the file:
// then no browser turns the picture, and the page does.

/** A file that no browser turns, and the EXIF orientation that it had; but for a WebP, the file itself, and 1. */
export async function withoutOrientation(blob) {
  const head = new Uint8Array(await blob.slice(0, 12).arrayBuffer());
  if (head.length < 12 || name(head, 0) !== "RIFF" || name(head, 8) !== "WEBP") return [blob, 1];
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const view = new DataView(bytes.buffer);
  for (let at = 12; at + 8 <= bytes.length; ) {
    const size = view.getUint32(at + 4, true);
    if (name(bytes, at) === "EXIF") {
      const found = orientation(bytes.subarray(at + 8, at + 8 + size));
      bytes.fill(0x20, at, at + 4); // no chunk's name: readers pass it over
      if (name(bytes, 12) === "VP8X") bytes[20] &= ~0x08; // "there is EXIF data"
      return [new Blob([bytes], { type: blob.type }), found];
    }
    at += 8 + size + (size & 1);
  }
  return [blob, 1];
}

const name = (bytes, at) => String.fromCharCode(...bytes.subarray(at, at + 4));

/** Of EXIF data; 1 where it says nothing, or nothing that is known. */
function orientation(exif) {
  const start = name(exif, 0) === "Exif" ? 6 : 0;
  const view = new DataView(exif.buffer, exif.byteOffset + start, Math.max(0, exif.length - start));
  try {
    const little = view.getUint16(0) === 0x4949;
    const table = view.getUint32(4, little);
    for (let i = 0; i < view.getUint16(table, little); i++) {
      const entry = table + 2 + 12 * i;
      if (view.getUint16(entry, little) === 0x0112) {
        const value = view.getUint16(entry + 8, little);
        return value >= 1 && value <= 8 ? value : 1;
      }
    }
  } catch (problem) {
    if (!(problem instanceof RangeError)) throw problem; // damaged: the picture itself may be sound
  }
  return 1;
}

/** A canvas's transform that shows a bitmap of w × h pixels upright (EXIF 2.32, table 6). */
export function turning(orientation, w, h) {
  return {
    1: [1, 0, 0, 1, 0, 0], 2: [-1, 0, 0, 1, w, 0], 3: [-1, 0, 0, -1, w, h], 4: [1, 0, 0, -1, 0, h],
    5: [0, 1, 1, 0, 0, 0], 6: [0, 1, -1, 0, h, 0], 7: [0, -1, -1, 0, h, w], 8: [0, -1, 1, 0, 0, w],
  }[orientation];
}
