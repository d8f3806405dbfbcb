// Pictures to try.

/** The site's own pictures, each a button that chooses it. */
export async function demo(site, list, section, choose) {
  const answer = await fetch(new URL("demo/pictures.json", site)).catch(() => null);
  const pictures = answer?.ok ? await answer.json().catch(() => []) : [];
  for (const { file, caption } of pictures) {
    const [item, image] = [document.createElement("li"), new Image(72, 72)];
    image.src = new URL(`demo/${file}`, site);
    image.alt = `Try: ${caption}`;
    image.loading = "lazy";
    const button = document.createElement("button");
    button.type = "button";
    button.append(image);
    image.addEventListener("error", () => item.remove());
    button.addEventListener("click", async () => choose(await (await fetch(image.src)).blob()));
    item.append(button);
    list.append(item);
  }
  section.hidden = !pictures.length;
}
