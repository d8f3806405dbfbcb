// A picture on the page.

const SHOWN = 960; // pixels of the longer side, for dense screens

/**
 * Onto a canvas, no larger than needed: browsers keep what an <img> ever decoded.
 * @param wanted whether the picture still is the one to be shown, when it is decoded.
 */
export async function draw(picture, canvas, wanted) {
  let bitmap = null;
  try {
    bitmap = await createImageBitmap(picture);
  } catch {
    // The worker says why it cannot be read.
  }
  if (wanted()) {
    canvas.hidden = !bitmap;
    if (bitmap) {
      const scale = Math.min(1, SHOWN / Math.max(bitmap.width, bitmap.height));
      canvas.width = Math.max(1, Math.round(bitmap.width * scale));
      canvas.height = Math.max(1, Math.round(bitmap.height * scale));
      const context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    }
  }
  bitmap?.close();
}
