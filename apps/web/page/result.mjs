// How what the engine made is laid out: rows of layers run and of probabilities.

export const milliseconds = (seconds) => `${Math.round(seconds * 1000).toLocaleString("en")} ms`;

/** Layers of a caption: of the picture, then of each word. */
export function captionRows({ exits, words }, depths) {
  const stacks = Object.entries(exits).filter(([stack]) => stack !== "decoder" && stack !== "text");
  const rows = stacks.map(([stack, depth]) => layers("the picture", depth, depths[stack]));
  exits.decoder.forEach((depth, i) => {
    rows.push(layers(words[i]?.trim() || "the end", depth, depths.decoder));
  });
  return rows;
}

const READ = { text: "the statement", image: "the picture", encoder: "picture and statement" };

/** Layers of an answer; the decoder's are a mean where it is fed the question word by word. */
export function answerRows({ exits }, depths) {
  const { decoder, ...stacks } = exits;
  const mean = decoder.reduce((a, b) => a + b, 0) / decoder.length;
  return [
    ...Object.entries(stacks).map(([stack, depth]) => layers(READ[stack], depth, depths[stack])),
    layers("the answer", Number(mean.toFixed(1)), depths.decoder),
  ];
}

export function shareRows(probabilities) {
  return Object.entries(probabilities).map(([answer, p]) => row(answer, p, 1, `${(100 * p).toFixed(1)} %`));
}

const layers = (what, depth, of) => row(what, depth, of, `${depth} of ${of}`);

function row(what, value, of, text) {
  const line = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = what;
  const bar = document.createElement("td");
  const meter = document.createElement("meter");
  meter.max = of;
  meter.value = value;
  meter.textContent = text;
  meter.setAttribute("aria-hidden", "true");
  bar.append(meter);
  const number = document.createElement("td");
  number.textContent = text;
  line.append(head, bar, number);
  return line;
}
