"use strict";
const kind = document.currentScript.dataset.kind;
const fields = [...document.querySelectorAll("textarea")];
const state = document.getElementById("state");
let saved = true;

function changed() {
  return fields.filter((field) => field.value !== field.defaultValue);
}

for (const field of fields) {
  field.addEventListener("input", () => {
    field.closest("li").classList.toggle("changed", field.value !== field.defaultValue);
    saved = false;
    const count = changed().length;
    state.textContent = count ? `${count} changed, not saved yet.` : "Nothing is changed.";
  });
}

document.getElementById("save").addEventListener("click", () => {
  const edits = changed().map((field) => ({ sha256: field.dataset.sha256, alt: field.value }));
  const file = new Blob([JSON.stringify({ kind, edits }, null, 1)], { type: "application/json" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = "alt-text-edits.json";
  link.click();
  URL.revokeObjectURL(link.href);
  saved = true;
  state.textContent = `${edits.length} corrections saved as ${link.download}.`;
});

window.addEventListener("beforeunload", (event) => {
  if (!saved && changed().length) event.preventDefault();
});
