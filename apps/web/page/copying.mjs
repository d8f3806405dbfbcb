// Texts to the clipboard.

/** Copy a text; the button that asked for it says so for a while. */
export async function copied(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Only a page by https or of this machine has a clipboard; the old way needs a field.
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  button.dataset.label ??= button.textContent;
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = button.dataset.label), 2000);
}
