// The third part of the script: the pointer over the pictures, and what the buttons do. It starts the page.

// Hover

function hover(canvas) {
  const tip = part("tip");
  const leave = () => { tip.hidden = true; };
  canvas.addEventListener("pointerleave", leave);
  canvas.addEventListener("pointercancel", leave);
  for (const kind of ["pointermove", "pointerdown"]) canvas.addEventListener(kind, (event) => {
    if (!image) return;
    const box = canvas.getBoundingClientRect();
    const place = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    if (place.some((at) => at < 0 || at >= 1)) return leave();
    const [x, y] = place;
    const at = Math.floor(y * image.height) * image.width + Math.floor(x * image.width);
    const of = canvas === part("learned") ? image.learned : image.seen;
    const lines = [make("div", {}, swatch(of.labels[at]), " ", make("b", {}, image.classes[of.labels[at]]),
      " " + of.percent[at] + " %")];
    if (image.seen.labels[at] !== image.learned.labels[at]) {
      const [word, other] = of === image.learned ? ["edited: ", image.seen] : ["as learned: ", image.learned];
      lines.push(make("div", {}, word, image.classes[other.labels[at]], " " + other.percent[at] + " %"));
    }
    if (image.gates.length) {
      lines.push(make("div", {}, image.gates.map((gate) => {
        const step = gate.map[Math.floor(y * gate.height) * gate.width + Math.floor(x * gate.width)];
        return "G" + gate.level + " " + (of === image.learned ? step / 255 : used(gate, step / 255)).toFixed(2);
      }).join("   ")));
    }
    tip.replaceChildren(...lines);
    tip.hidden = false;
    const left = event.clientX + 16 + tip.offsetWidth > window.innerWidth ? -16 - tip.offsetWidth : 16;
    tip.style.left = Math.max(4, event.clientX + left) + "px";
    tip.style.top = Math.max(4, Math.min(event.clientY + 16, window.innerHeight - tip.offsetHeight - 4)) + "px";
  });
}

// Wiring

for (const [number, name] of page.models.entries()) part("model").append(make("option", { value: number }, name));
part("model").addEventListener("change", () => source && open(source));
part("choose").addEventListener("click", () => part("file").click());
part("file").addEventListener("change", () => { openFile(part("file").files[0]); part("file").value = ""; });
part("opacity").addEventListener("input", () => {
  part("opacity-value").textContent = part("opacity").value + " %";
  drawPictures();
});
for (const button of root.querySelectorAll("[data-mode][aria-pressed]")) button.addEventListener("click", () => {
  mode = button.dataset.mode;
  for (const other of root.querySelectorAll("[data-mode][aria-pressed]")) {
    other.setAttribute("aria-pressed", String(other === button));
  }
  part("pictures").dataset.mode = mode;
  if (image) part("caption").textContent = caption();
  drawPictures();
});
part("reset").addEventListener("click", () => {
  for (const gate of image.gates) { Object.assign(gate, { mode: "scale", scale: 1 }); drawGate(gate); }
  part("reset").disabled = true;
  want("exact");
});
part("save").addEventListener("click", async () => {
  part("save").disabled = true;
  const answer = await ask("save", { key: image.key, edits: edits(), opacity: part("opacity").value / 100 });
  part("save").disabled = false;
  if (answer.expired) { if (await load(source, edits())) part("save").click(); return; }
  if (answer.error) return;
  const bytes = Uint8Array.from(atob(answer.zip), (character) => character.charCodeAt(0));
  const link = make("a", { href: URL.createObjectURL(new Blob([bytes], { type: "application/zip" })),
    download: "gffnet-explore.zip" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});
for (const kind of ["dragenter", "dragover"]) part("pictures").addEventListener(kind, (event) => {
  event.preventDefault();
  part("pictures").classList.add("over");
});
for (const kind of ["dragleave", "drop"]) part("pictures").addEventListener(kind, () =>
  part("pictures").classList.remove("over"));
part("pictures").addEventListener("drop", (event) => {
  event.preventDefault();
  openFile(event.dataTransfer.files[0]);
});
hover(part("edited"));
hover(part("learned"));

const colours = await unpack(page.colours);
paint(part("bar"), 1, 256, (data) => {
  for (let step = 0; step < 256; step++) for (let c = 0; c < 3; c++) data[4 * step + c] = colours[3 * step + c];
});
for (const [number, packed] of page.scenes.entries()) {
  const canvas = make("canvas", {});
  const rgb = await unpack(packed);
  paint(canvas, ...page.thumbnail, (data, pixels) => {
    for (let i = 0; i < pixels; i++) for (let c = 0; c < 3; c++) data[4 * i + c] = rgb[3 * i + c];
  });
  const button = make("button", { type: "button", "data-scene": number, "aria-pressed": "false",
    "aria-label": "Drawn scene " + (number + 1) }, canvas);
  button.addEventListener("click", () => open({ scene: number }));
  part("scenes").append(button);
}
root.dataset.ready = "yes";
