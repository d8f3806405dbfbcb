// What a reader sees and touches. The engine is in worker.mjs; nothing here leaves the page.
import { answerRows, captionRows, milliseconds, shareRows } from "./result.mjs";

const byId = (id) => document.getElementById(id);
const site = new URL("../", import.meta.url);
const judges = document.documentElement.dataset.task === "entail"; // statements, instead of captioning

let worker = null;
let ready = null; // {policies, depths}
let current = 0; // number of the picture that is shown
let blob = null;
let loaded = 0;
let total = 0;

const SHOWN = 960; // pixels of the longer side, for dense screens
const STAGES = { Python: "Starting Python", model: "Loading the model", segments: "Preparing the model" };

function say(text) {
  byId("state").textContent = text;
}

function fail(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

function show(picture) {
  if (blob) byId("given").value = ""; // it was another picture's
  blob = picture;
  draw(picture);
  byId("hint").hidden = true;
  byId("stage").scrollIntoView({ block: "nearest" });
  describe();
}

/** Onto a canvas, no larger than needed: browsers keep what an <img> ever decoded. */
async function draw(picture) {
  const canvas = byId("picture");
  let bitmap = null;
  try {
    bitmap = await createImageBitmap(picture);
  } catch {
    // The worker says why it cannot be read.
  }
  if (picture === blob) {
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

/** Read the picture that is shown. A page that judges statements waits for one, unless it was `asked`. */
function describe(asked = false) {
  if (!blob) {
    if (asked) fail("Choose a picture first.");
    return;
  }
  current += 1;
  fail("");
  for (const id of ["caption", "asked", "note"]) byId(id).textContent = "";
  byId("picture").ariaLabel = "";
  byId("details").hidden = true;
  byId("exits").replaceChildren();
  const statement = byId("statement").value.trim();
  if (judges && !statement && !asked) {
    say("Write a statement about the picture.");
    return;
  }
  const caption = byId("given").value.trim() || null;
  if (statement) byId("asked").textContent = `“${statement}”${caption ? `, captioned “${caption}”` : ""}`;
  if (ready) say("Reading the picture …");
  worker?.postMessage({ id: current, blob, statement, caption, policy: chosenPolicy() });
}

/** What both tasks show in the end: `text` and the layers, time and calls that it took. */
function finish({ id, seconds, calls }, text, label, rows) {
  byId("caption").textContent = text;
  byId("picture").ariaLabel = label;
  say(`Done in ${milliseconds(seconds.total)}.`);
  byId("exits").replaceChildren(...rows);
  const model = seconds.total - seconds.prepare;
  byId("times").textContent =
    `Picture ${milliseconds(seconds.prepare)}, model ${milliseconds(model)}, ${calls} calls.`;
  byId("details").hidden = false;
  document.documentElement.dataset.done = String(id);
}

function chosenPolicy() {
  return ready ? ready.policies[Number(byId("policy").value)].name : null;
}

const handlers = {
  loaded({ bytes }) {
    loaded += bytes;
    if (total) byId("progress").value = Math.min(1, loaded / total);
  },
  progress({ what, done, total: all }) {
    say(`${STAGES[what]} …`);
    if (what === "segments") byId("progress").value = done / all;
  },
  ready(data) {
    ready = data;
    byId("progress").hidden = true;
    const slider = byId("policy");
    slider.max = data.policies.length - 1;
    slider.value = data.policies.findIndex((policy) => policy.chosen);
    byId("dial").hidden = data.policies.length < 2;
    namePolicy();
    document.documentElement.dataset.ready = "yes";
    say(blob ? "Reading the picture …" : "Ready.");
    describe();
    navigator.serviceWorker?.controller?.postMessage("keep");
  },
  broken({ message }) {
    byId("progress").hidden = true;
    say("");
    fail(`The model could not be started. ${message}`);
  },
  token({ id, text }) {
    if (id !== current) return;
    byId("caption").textContent = text;
    say("Writing …");
  },
  caption(made) {
    if (made.id !== current) return;
    finish(made, made.text || "(no words)", made.text, captionRows(made, ready.depths));
  },
  entail(made) {
    if (made.id !== current) return;
    byId("note").textContent = made.note;
    byId("shares").replaceChildren(...shareRows(made.probabilities));
    const label = `${byId("asked").textContent}: ${made.answer}`;
    finish(made, made.answer, label, answerRows(made, ready.depths));
  },
  failed({ id, message }) {
    if (id !== current) return;
    say("");
    fail(message);
    document.documentElement.dataset.done = String(id);
  },
};

function namePolicy() {
  const { name, seconds, quality } = ready.policies[Number(byId("policy").value)];
  const kept = quality ? `, keeps ${Math.round(quality * 100)} % of the quality` : "";
  const time = seconds ? `, about ${milliseconds(seconds)} where it was calibrated` : "";
  byId("policy-name").textContent = `${name}${time}${kept}`;
  byId("policy").setAttribute("aria-valuetext", name);
}

async function offline() {
  const workers = navigator.serviceWorker;
  if (!workers) {
    byId("offline").textContent = "Served without https, so the page does not work offline.";
    return;
  }
  workers.addEventListener("message", ({ data }) => {
    if (data !== "kept") return;
    byId("offline").textContent = "Ready for use without a network.";
    document.documentElement.dataset.offline = "yes";
  });
  try {
    await workers.register(new URL("sw.js", site));
    await workers.ready;
    // Only what a controlled page loads goes through the service worker, and is so loaded once.
    if (!workers.controller) {
      await new Promise((done) => {
        workers.addEventListener("controllerchange", done, { once: true });
        setTimeout(done, 2000); // a forced reload stays uncontrolled
      });
    }
  } catch {
    byId("offline").textContent = "This browser does not keep the page for use offline.";
  }
}

async function demo() {
  const answer = await fetch(new URL("demo/pictures.json", site));
  const pictures = answer.ok ? await answer.json() : [];
  for (const { file, caption } of pictures) {
    const image = new Image(72, 72);
    image.src = new URL(`demo/${file}`, site);
    image.alt = `Try: ${caption}`;
    image.loading = "lazy";
    const button = document.createElement("button");
    button.type = "button";
    button.append(image);
    button.addEventListener("click", async () => show(await (await fetch(image.src)).blob()));
    const item = document.createElement("li");
    item.append(button);
    byId("pictures").append(item);
  }
  byId("demo").hidden = !pictures.length;
}

function take(files) {
  const picture = [...files].find((file) => file.type.startsWith("image/")) ?? files[0];
  if (picture) show(picture);
}

function listen() {
  for (const id of ["pick", "shoot"]) {
    byId(id).addEventListener("change", ({ target }) => {
      take(target.files);
      target.value = ""; // the same file may be chosen again
    });
  }
  const stage = byId("stage");
  const over = (on) => (event) => {
    event.preventDefault();
    stage.classList.toggle("over", on);
  };
  document.addEventListener("dragover", over(true));
  document.addEventListener("dragleave", over(false));
  document.addEventListener("drop", (event) => {
    over(false)(event);
    take(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => take(event.clipboardData.files));
  byId("policy").addEventListener("input", namePolicy);
  byId("policy").addEventListener("change", () => describe());
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    describe(true);
  });
}

async function begin() {
  listen();
  await offline();
  const index = await fetch(new URL("site.json", site));
  if (index.ok) {
    const { files } = await index.json();
    const read = ([path]) => /^(bundle\/(?!golden)|python\/)/.test(path);
    total = Object.entries(files).filter(read).reduce((sum, [, file]) => sum + file.bytes, 0);
  }
  worker = new Worker(new URL("worker.mjs", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }) => handlers[data.kind](data);
  worker.onerror = () => handlers.broken({ message: "This browser may be too old: it needs WebAssembly." });
  demo();
}

begin();
