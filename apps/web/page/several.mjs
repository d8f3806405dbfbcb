// Several pictures at once: a line each, in the order in which they came, until one cancels.
import { milliseconds } from "./result.mjs";

const THUMB = 56; // pixels

export class Several {
  /**
   * @param parts section, list, state: elements; cancel, copyAll: buttons; canvas: where the picture is drawn
   *   that is read; read(picture): shows one and settles to {text, seconds}, {problem}, or null if another
   *   came between; open(picture): shows one again; copied(text, button): copies.
   */
  constructor({ section, list, state, cancel, copyAll, canvas, read, open, copied }) {
    Object.assign(this, { section, list, state, cancel, copyAll, canvas, read, open });
    this.lines = [];
    this.run = 0; // number of the run; a larger one ends those before it
    cancel.addEventListener("click", () => this.stop());
    copyAll.addEventListener("click", () => {
      copied(this.lines.map(({ picture, text }) => `${picture.name}\t${text.textContent}`).join("\n"), copyAll);
    });
  }

  get any() {
    return this.lines.length > 0;
  }

  /** Read these; those before are left. */
  async start(pictures) {
    this.lines = pictures.map((picture) => this.#line(picture));
    this.list.replaceChildren(...this.lines.map(({ item }) => item));
    this.section.hidden = !this.any;
    await this.again();
  }

  /** Read all of them, from the first. */
  async again() {
    const run = ++this.run;
    for (const { text } of this.lines) text.textContent = "waiting";
    this.cancel.hidden = false;
    let done = 0;
    for (const { picture, thumb, text } of this.lines) {
      this.state.textContent = `${done} of ${this.lines.length} read`;
      text.textContent = "reading …";
      const made = await this.read(picture);
      if (this.run !== run) return;
      if (!made) {
        this.stop();
        return;
      }
      text.textContent = made.problem ?? `${made.text} (${milliseconds(made.seconds)})`;
      text.classList.toggle("wrong", "problem" in made);
      if (!made.problem) this.#draw(thumb);
      done += 1;
    }
    this.state.textContent = `${done} of ${done} read`;
    this.cancel.hidden = true;
  }

  /** Read no further ones. */
  stop() {
    if (this.cancel.hidden) return;
    this.run += 1;
    this.cancel.hidden = true;
    const open = this.lines.filter(({ text }) => /^(waiting|reading …)$/.test(text.textContent));
    for (const { text } of open) text.textContent = "not read";
    this.state.textContent = `${this.lines.length - open.length} of ${this.lines.length} read, then cancelled`;
  }

  clear() {
    this.stop();
    this.lines = [];
    this.list.replaceChildren();
    this.section.hidden = true;
  }

  #line(picture) {
    const [item, button, thumb, name, text] = ["li", "button", "canvas", "b", "span"].map((tag) =>
      document.createElement(tag),
    );
    thumb.width = thumb.height = THUMB;
    button.type = "button";
    button.setAttribute("aria-label", `Show ${picture.name}`);
    button.append(thumb);
    button.addEventListener("click", () => this.open(picture));
    name.textContent = picture.name;
    item.append(button, name, text);
    return { picture, item, thumb, text };
  }

  #draw(thumb) {
    const { width, height } = this.canvas;
    const scale = THUMB / Math.max(width, height);
    const [w, h] = [width * scale, height * scale];
    const context = thumb.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(this.canvas, (THUMB - w) / 2, (THUMB - h) / 2, w, h);
  }
}
