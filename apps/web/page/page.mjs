// What a reader sees and touches. The engine is in worker.mjs; nothing here leaves the page.
import { copied } from "./copying.mjs";
import { demo } from "./demo.mjs";
import { draw } from "./drawing.mjs";
import { Loading, damage, indexed } from "./loading.mjs";
import { forget, keep, offline } from "./offline.mjs";
import { answerRows, captionRows, milliseconds, shareRows } from "./result.mjs";
import { Several } from "./several.mjs";

const byId = (id) => document.getElementById(id);
const site = new URL("../", import.meta.url);
const judges = document.documentElement.dataset.task === "entail"; // statements, instead of captioning

let worker = null;
let ready = null; // {policies, stacks}
let current = 0; // number of the picture that is shown
let blob = null;
let settle = () => {}; // what waits for the picture that is read
let compared = null; // {id, seconds}: the answer whose full depth is asked for
let files = {}; // of the site
let loading = new Loading(files);
let broken = false;

const STAGES = { Python: "Starting Python", model: "Loading the model", segments: "Preparing the model" };

function say(text) {
  byId("state").textContent = text;
}

function fail(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

/** Show a picture and read it; settles as `Several` wants it. */
function show(picture) {
  if (blob) byId("given").value = ""; // it was another picture's
  blob = picture;
  const drawn = draw(picture, byId("picture"), () => picture === blob);
  byId("hint").hidden = true;
  if (!several.any) byId("stage").scrollIntoView({ block: "nearest" });
  return Promise.all([describe(), drawn]).then(([made]) => made);
}

/** Read the picture that is shown. A page that judges statements waits for one, unless it was `asked`. */
function describe(asked = false) {
  if (!blob) {
    if (asked) fail("Choose a picture first.");
    return null;
  }
  settle(null);
  current += 1;
  delete document.documentElement.dataset.done;
  compared = null;
  fail("");
  for (const id of ["caption", "asked", "note", "beside"]) byId(id).textContent = "";
  for (const id of ["copy", "compare"]) byId(id).hidden = true;
  byId("picture").ariaLabel = "";
  byId("details").hidden = true;
  byId("exits").replaceChildren();
  const statement = byId("statement").value.trim();
  if (judges && !statement && !asked) {
    say("Write a statement about the picture.");
    return null;
  }
  const caption = byId("given").value.trim() || null;
  if (statement) byId("asked").textContent = `“${statement}”${caption ? `, captioned “${caption}”` : ""}`;
  if (ready) say("Reading the picture …");
  post(chosenPolicy());
  return new Promise((done) => {
    settle = done;
  });
}

function post(policy) {
  const caption = byId("given").value.trim() || null;
  worker?.postMessage({ id: current, blob, statement: byId("statement").value.trim(), caption, policy });
}

/** What both tasks show in the end: `text` and the layers, time and calls that it took. */
function finish({ id, seconds, calls }, text, label, rows) {
  if (compared?.id === id) {
    const times = `${milliseconds(seconds.total)} instead of ${milliseconds(compared.seconds)}`;
    byId("beside").textContent = `Every layer: “${text}”, ${times}.`;
    compared = null;
    say("");
    document.documentElement.dataset.compared = String(id);
    return;
  }
  byId("caption").textContent = text;
  byId("picture").ariaLabel = label;
  say(`Done in ${milliseconds(seconds.total)}.`);
  byId("exits").replaceChildren(...rows);
  const model = seconds.total - seconds.prepare;
  byId("times").textContent =
    `Picture ${milliseconds(seconds.prepare)}, model ${milliseconds(model)}, ${calls} calls.`;
  byId("details").hidden = false;
  byId("copy").hidden = false;
  byId("compare").hidden = atFull();
  byId("compare").dataset.seconds = seconds.total;
  settle({ text, seconds: seconds.total });
  document.documentElement.dataset.done = String(id);
}

function chosenPolicy() {
  return ready ? ready.policies[Number(byId("policy").value)].name : null;
}

function atFull() {
  return Number(byId("policy").value) === ready.policies.length - 1;
}

function showLoading(what = stage) {
  stage = what;
  say(`${STAGES[what]} … ${loading.text}`);
  byId("progress").value = loading.share;
}

let stage = "Python";

const handlers = {
  loaded({ path, bytes }) {
    loading.add(path, bytes);
    if (!ready && !broken) showLoading();
  },
  lacking({ path }) {
    if (path in files) handlers.broken({ message: `${path} is missing.` });
  },
  progress({ what, done, total }) {
    if (broken) return;
    if (what !== "Python") loading.whole("pyodide/");
    if (what === "segments") loading.whole("");
    showLoading(what);
    if (what === "segments") byId("progress").value = done / total;
  },
  ready(data) {
    ready = data;
    byId("progress").hidden = true;
    const slider = byId("policy");
    slider.max = data.policies.length - 1;
    slider.value = data.policies.findIndex((policy) => policy.opening);
    byId("dial").hidden = data.policies.length < 2;
    namePolicy();
    document.documentElement.dataset.ready = "yes";
    say(blob ? "Reading the picture …" : "Ready.");
    if (several.any) several.again();
    else describe();
    keep();
  },
  async broken({ message }) {
    if (broken || ready) return;
    broken = true;
    byId("progress").hidden = true;
    say("");
    fail(`The model could not be started. ${message}`);
    try {
      const found = await damage(site, files);
      await forget();
      const mend = "Copy the whole folder to the server again, or export the site again; then reload this page.";
      if (found) fail(`The model could not be started: ${found}. ${mend}`);
    } catch {
      // No server to ask: what is kept here is all that there is.
    }
  },
  token({ id, text }) {
    if (id !== current || compared) return;
    byId("caption").textContent = text;
    say("Writing …");
  },
  caption(made) {
    if (made.id !== current) return;
    finish(made, made.text || "(no words)", made.text, captionRows(made, ready.stacks));
  },
  entail(made) {
    if (made.id !== current) return;
    if (!compared) {
      byId("note").textContent = made.note;
      byId("shares").replaceChildren(...shareRows(made.probabilities));
    }
    const label = `${byId("asked").textContent}: ${made.answer}`;
    finish(made, made.answer, label, answerRows(made, ready.stacks));
  },
  failed({ id, message }) {
    if (id !== current) return;
    compared = null;
    say("");
    fail(message);
    settle({ problem: message });
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

/** Show one picture, and no list. */
function alone(picture) {
  several.clear();
  show(picture);
}

/** Pictures among what was chosen, dropped or pasted; without any, the worker says what the first is not. */
function take(chosen) {
  const pictures = [...chosen].filter((file) => file.type.startsWith("image/"));
  if (pictures.length > 1) several.start(pictures);
  else if (chosen.length) alone(pictures[0] ?? chosen[0]);
}

const several = new Several({
  section: byId("several"), list: byId("list"), state: byId("several-state"), canvas: byId("picture"),
  cancel: byId("cancel"), copyAll: byId("copy-all"), copied, read: show,
  open(picture) {
    several.stop();
    show(picture);
  },
});

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
  byId("policy").addEventListener("change", () => {
    several.stop();
    describe();
  });
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    if (several.any && byId("statement").value.trim()) several.again();
    else describe(true);
  });
  byId("copy").addEventListener("click", () => copied(byId("caption").textContent, byId("copy")));
  byId("compare").addEventListener("click", () => {
    compared = { id: current, seconds: Number(byId("compare").dataset.seconds) };
    byId("compare").hidden = true;
    say("Running every layer …");
    post(ready.policies.at(-1).name);
  });
}

async function begin() {
  listen();
  byId("stuck").remove();
  await offline(site, {
    mayKeep: () => ready !== null,
    say: (text) => (byId("offline").textContent = text),
    kept: (whole) => (document.documentElement.dataset.offline = whole ? "yes" : "no"),
  });
  files = await indexed(site);
  loading = new Loading(files);
  worker = new Worker(new URL("worker.mjs", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }) => handlers[data.kind](data);
  worker.onerror = () => handlers.broken({ message: "This browser may be too old: it needs WebAssembly." });
  demo(site, byId("pictures"), byId("demo"), alone);
}

begin();
