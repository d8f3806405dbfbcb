// Until the model is there: what is loaded, how much of it, and what is missing.

const NEEDED = /^(bundle\/(?!golden\/)|python\/|pyodide\/|ort\/)/;

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

/** The site's files by its index: path → {bytes, sha256}; {} for a site without one. */
export async function indexed(site) {
  try {
    const answer = await fetch(new URL("site.json", site));
    return answer.ok ? (await answer.json()).files : {};
  } catch {
    return {};
  }
}

/** Bytes of the files that the model needs, as they come in. */
export class Loading {
  constructor(files) {
    this.files = Object.fromEntries(Object.entries(files).filter(([path]) => NEEDED.test(path)));
    this.got = new Map();
    this.all = Object.values(this.files).reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get share() {
    return this.all ? Math.min(1, this.#sum() / this.all) : 0;
  }

  get text() {
    const sum = this.#sum();
    return this.all ? `${megabytes(Math.min(sum, this.all))} of ${megabytes(this.all)} MB` : `${megabytes(sum)} MB`;
  }

  add(path, bytes) {
    this.got.set(path, (this.got.get(path) ?? 0) + bytes);
  }

  /** All files there are whole, also those that nobody counted: modules, and what was not asked for. */
  whole(folder) {
    for (const [path, { bytes }] of Object.entries(this.files)) {
      if (path.startsWith(folder)) this.got.set(path, bytes);
    }
  }

  #sum() {
    return [...this.got.values()].reduce((sum, bytes) => sum + bytes, 0);
  }
}

/** What is wrong with the site's files, as its server has them: a sentence, or "" where nothing is. */
export async function damage(site, files) {
  const found = await Promise.all(
    Object.entries(files)
      .filter(([path]) => NEEDED.test(path) || path.startsWith("page/"))
      .map(async ([path, { bytes }]) => {
        const answer = await fetch(new URL(path, site), { method: "HEAD", cache: "no-store" });
        if (!answer.ok) return `${path} is missing on the server (${answer.status})`;
        const size = answer.headers.get("Content-Length");
        const packed = answer.headers.get("Content-Encoding");
        return size === null || packed || Number(size) === bytes ? "" : `${path} has ${size} bytes there, not ${bytes}`;
      }),
  );
  return found.filter(Boolean).join("; ");
}
