// How what the engine made is laid out: rows of layers run and of probabilities.

export const milliseconds = (seconds) => `${Math.round(seconds * 1000).toLocaleString("en")} ms`;

/** Layers of a caption: of what looks at the picture, then of each word. */
export function captionRows({ exits, words }, stacks) {
  const decoder = stacks.at(-1);
  const each = exits[decoder.name].map((depth, i) =>
    layers(words[i]?.trim() || "the end", depth, decoder.layers),
  );
  return [...encoderRows(exits, stacks), ...each];
}

/** Layers of an answer; the decoder's are a mean where it is fed the question word by word. */
export function answerRows({ exits }, stacks) {
  const decoder = stacks.at(-1);
  const depths = exits[decoder.name];
  const mean = depths.reduce((a, b) => a + b, 0) / depths.length;
  return [...encoderRows(exits, stacks), layers("the answer", Number(mean.toFixed(1)), decoder.layers)];
}

const encoderRows = (exits, stacks) =>
  stacks.filter(({ reads }) => reads).map((s) => layers(s.reads, exits[s.name], s.layers));

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
