// The page's side of the explorer. It gets labels, probabilities and gate maps as numbers and draws them itself: colours,
// opacity, comparison and the hover need no question to the server; only moving a gate does.
// `element`, `props` and `server` are what gradio gives the script of a component.

const page = JSON.parse(props.page);
const root = element.querySelector(".gx");
const part = (name) => root.querySelector('[data-is="' + name + '"]');
const STILL = 250; // milliseconds without a movement, after which a rough picture gives way to the exact one

let image = null; // what is open: see `opened`
let source = null; // {scene} or {file}
let mode = "edited";
let busy = false;
let wanted = null; // "quick" or "exact": a question that waits for the answer to the one before
let timer = null;
let shown = 0;

// Numbers from text

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpackSeen(text, pixels) {
  const both = await unpack(text);
  return { labels: both.subarray(0, pixels), percent: both.subarray(pixels) };
}

function make(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Drawing

function paint(canvas, height, width, put) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  picture.data.fill(255);
  put(picture.data, width * height);
  context.putImageData(picture, 0, 0);
}

// (1 - alpha) image + alpha colour; storing into clamped bytes rounds half to even, as numpy does.
function overlay(labels, alpha) {
  const { rgb, palette } = image;
  return (data, pixels) => {
    for (let i = 0; i < pixels; i++) {
      const colour = palette[labels[i]];
      for (let c = 0; c < 3; c++) data[4 * i + c] = (1 - alpha) * rgb[3 * i + c] + alpha * colour[c];
    }
  };
}

function marked(labels, before) {
  const { rgb } = image;
  return (data, pixels) => {
    for (let i = 0; i < pixels; i++) {
      const dark = 0.45 * (0.299 * rgb[3 * i] + 0.587 * rgb[3 * i + 1] + 0.114 * rgb[3 * i + 2]);
      const changed = labels[i] !== before[i];
      for (let c = 0; c < 3; c++) data[4 * i + c] = changed ? page.mark[c] : dark;
    }
  };
}

function drawPictures() {
  if (!image) return;
  const alpha = part("opacity").value / 100;
  const { height, width, seen, learned } = image;
  if (mode === "learned" || mode === "both") paint(part("learned"), height, width, overlay(learned.labels, alpha));
  if (mode === "edited" || mode === "both") paint(part("edited"), height, width, overlay(seen.labels, alpha));
  if (mode === "changed") paint(part("edited"), height, width, marked(seen.labels, learned.labels));
}

function used(gate, value) {
  return gate.mode === "hold" ? gate.value : Math.min(1, gate.scale * value);
}

function isEdited(gate) {
  return gate.mode === "hold" || gate.scale !== 1;
}

function drawGate(gate) {
  const steps = new Uint8Array(256).map((_, step) => Math.round(255 * used(gate, step / 255)));
  let total = 0;
  paint(gate.canvas, gate.height, gate.width, (data, pixels) => {
    for (let i = 0; i < pixels; i++) {
      const step = steps[gate.map[i]];
      total += step;
      for (let c = 0; c < 3; c++) data[4 * i + c] = colours[3 * step + c];
    }
  });
  const mean = gate.mean.toFixed(2);
  const now = (total / gate.map.length / 255).toFixed(2);
  gate.meanText.textContent = isEdited(gate) ? "mean " + mean + " → " + now : "mean " + mean;
  gate.card.classList.toggle("edited", isEdited(gate));
  const slide = gate.mode === "hold" ? gate.value : gate.scale;
  gate.slider.max = gate.mode === "hold" ? 1 : 2;
  gate.slider.value = slide;
  gate.number.textContent = (gate.mode === "hold" ? "= " : "× ") + slide.toFixed(2);
  gate.select.value = gate.mode;
}

function swatch(label) {
  return make("i", { class: "swatch", style: "background: rgb(" + image.palette[label].join() + ")" });
}

function share(value) {
  return value > 0 && value < 0.0005 ? "< 0.1 %" : (100 * value).toFixed(1) + " %";
}

function drawLegend() {
  const pixels = new Uint32Array(256);
  for (const label of image.seen.labels) pixels[label]++;
  const order = [...pixels.keys()].filter((label) => pixels[label]).sort((a, b) => pixels[b] - pixels[a]);
  part("legend").replaceChildren(
    ...order.map((label) =>
      make("span", {}, swatch(label), image.classes[label], make("small", {}, share(pixels[label] / image.pixels))),
    ),
  );
}

function table(caption, rows) {
  const most = Math.max(...rows.map((row) => row[1]), 1e-9);
  const body = rows.map(([name, value]) =>
    make("tr", {}, make("th", { scope: "row" }, ...name),
      make("td", {}, make("div", { class: "fill", style: "width: " + (100 * value) / most + "%" })),
      make("td", {}, share(value))),
  );
  return make("table", {}, make("caption", {}, caption), make("tbody", {}, ...body));
}

function drawChanges(changes) {
  const box = part("changes");
  box.hidden = !changes;
  if (!changes) return;
  const classes = Object.entries(changes.by_class).sort((a, b) => b[1] - a[1]).slice(0, 8);
  box.replaceChildren(
    make("h2", {}, share(changes.share) + " of the pixels changed"),
    make("div", { class: "shares" },
      table("by distance to a boundary, in pixels",
        Object.entries(changes.by_distance).map(([ring, value]) => [[ring], value])),
      table("by class, as learned",
        classes.map(([label, value]) => [[swatch(label), " " + image.classes[label]], value]))),
  );
}

// Questions

function edits() {
  const edited = {};
  for (const gate of image.gates) {
    if (isEdited(gate)) edited[gate.level] = { scale: gate.scale, value: gate.mode === "hold" ? gate.value : null };
  }
  return edited;
}

async function ask(question, asked) {
  try {
    const answer = await server[question](asked);
    if (answer.error) tell(answer.error);
    return answer;
  } catch (error) {
    tell("gffnet does not answer: is `gffnet explore` still running?");
    return { error: String(error) };
  }
}

function tell(text) {
  part("message").textContent = text || "";
  part("message").hidden = !text;
}

function say(text) {
  part("status").textContent = text;
}

// The one question after another: while one is on its way, only the latest wish is kept.
async function pump() {
  if (busy) return;
  busy = true;
  while (wanted && image) {
    const quick = wanted === "quick" && image.halves;
    wanted = null;
    const of = image;
    const answer = await ask("fuse", { key: of.key, edits: edits(), quick });
    if (answer.error) break;
    if (answer.expired) {
      if (!(await load(source, edits()))) break;
      if (image.gates.some(isEdited)) wanted = "exact";
      continue;
    }
    const seen = await unpackSeen(answer.seen, of.pixels);
    if (of !== image) continue;
    image.seen = seen;
    if (!answer.quick) image.halves = image.mayHalve;
    drawPictures();
    drawLegend();
    drawChanges(Object.keys(edits()).length || answer.changes.share ? answer.changes : null);
    part("caption").textContent = answer.quick ? "rough, while you move" : caption();
    say((answer.quick ? "rough, at half the sides: " : "fused in ") + answer.milliseconds + " ms");
    finished(answer.quick ? "quick" : wanted ? "behind" : "exact");
    if (answer.quick && !wanted) settle();
  }
  busy = false;
}

function finished(state) {
  root.dataset.state = state;
  root.dataset.shown = ++shown;
}

function settle() {
  clearTimeout(timer);
  timer = setTimeout(() => want("exact"), STILL);
}

function want(kind) {
  if (kind === "exact") clearTimeout(timer);
  else settle();
  wanted = kind;
  pump();
}

function caption() {
  const names = image.gates.filter(isEdited).map((gate) =>
    "G" + gate.level + (gate.mode === "hold" ? " = " + gate.value : " × " + gate.scale));
  if (mode === "changed") return "changed pixels" + (names.length ? ": " + names.join(", ") : "");
  return names.length ? names.join(", ") : "as learned";
}

// Gates

function touched(gate, kind) {
  drawGate(gate);
  part("reset").disabled = !image.gates.some(isEdited);
  want(kind);
}

function gateCard(gate) {
  const name = "G" + gate.level;
  gate.canvas = make("canvas", { "aria-label": "Map of gate " + name, role: "img" });
  gate.meanText = make("small", { "data-is": "mean-" + gate.level });
  gate.slider = make("input", { type: "range", min: 0, max: 2, step: 0.01, "data-gate": gate.level,
    "aria-label": "Gate " + name });
  gate.number = make("output", {});
  gate.select = make("select", { "aria-label": "What the slider of gate " + name + " does" },
    make("option", { value: "scale" }, "scale"), make("option", { value: "hold" }, "hold"));
  const set = (kind, value) => {
    if (kind === "hold") Object.assign(gate, { mode: "hold", value });
    else Object.assign(gate, { mode: "scale", scale: value });
  };
  const button = (text, hint, kind, value) => {
    const made = make("button", { type: "button", title: hint, "data-do": text + "-" + gate.level }, text);
    made.addEventListener("click", () => { set(kind, value); touched(gate, "exact"); });
    return made;
  };
  gate.slider.addEventListener("input", () => { set(gate.mode, Number(gate.slider.value)); touched(gate, "quick"); });
  gate.slider.addEventListener("change", () => want("exact"));
  gate.select.addEventListener("change", () => {
    set(gate.select.value, gate.select.value === "hold" ? Math.round(100 * gate.mean) / 100 : 1);
    touched(gate, "exact");
  });
  const finest = gate.level === 1 ? "finest, " : "";
  gate.card = make("div", { class: "gate" }, gate.canvas,
    make("div", { class: "gate-side" },
      make("div", { class: "gate-name" },
        make("b", {}, "G", make("sub", {}, gate.level)),
        make("small", {}, finest + "stride " + gate.stride), gate.meanText),
      make("div", { class: "gate-slide" }, gate.slider, gate.number),
      make("div", { class: "gate-buttons" }, gate.select, button("close", "hold at 0: sends nothing", "hold", 0),
        button("open", "hold at 1: receives nothing", "hold", 1), button("reset", "as learned", "scale", 1))));
  hover(gate.canvas);
  return gate.card;
}

// Opening

async function opened(answer, kept) {
  const [height, width] = answer.size;
  const pixels = height * width;
  const learned = await unpackSeen(answer.seen, pixels);
  const gates = [];
  for (const sent of answer.gates) {
    const { scale, value } = kept[sent.level] || { scale: 1, value: null };
    const [gateHeight, gateWidth] = sent.size;
    gates.push({ ...sent, map: await unpack(sent.map), height: gateHeight, width: gateWidth, scale,
      value: value === null ? 0 : value, mode: value === null ? "scale" : "hold" });
  }
  const rgb = await unpack(answer.image);
  return { key: answer.key, classes: answer.classes, palette: answer.palette, height, width, pixels, learned,
    seen: learned, gates, rgb, mayHalve: answer.halves, halves: answer.halves };
}

async function load(from, kept) {
  root.dataset.state = image ? "loading" : "empty";
  say("encoding the image ...");
  const replaces = image ? image.key : null;
  const answer = await ask("open", { ...from, model: Number(part("model").value), replaces });
  if (answer.error) {
    say("");
    root.dataset.state = image ? "exact" : "empty";
    return false;
  }
  tell("");
  const levels = answer.gates.length;
  const keep = image && image.gates.length === levels ? kept : {};
  image = await opened(answer, keep);
  source = from;
  part("pictures").style.setProperty("--ratio", image.width / image.height);
  part("gates").replaceChildren(...image.gates.map(gateCard));
  image.gates.forEach(drawGate);
  part("without").textContent = answer.without || "";
  part("without").hidden = !answer.without;
  part("gates-section").dataset.none = answer.without ? "yes" : "no";
  part("save").disabled = false;
  part("reset").disabled = !image.gates.some(isEdited);
  for (const button of part("scenes").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.scene) === from.scene));
  }
  part("caption").textContent = "as learned";
  drawPictures();
  drawLegend();
  drawChanges(null);
  const whole = answer.whole[0] !== image.height || answer.whole[1] !== image.width;
  say(image.width + " x " + image.height + " pixels" +
    (whole ? ", reduced from " + answer.whole[1] + " x " + answer.whole[0] + " (--max-side " + page.most + ")" : "") +
    "; encoded in " + answer.milliseconds + " ms");
  finished(image.gates.some(isEdited) ? "loading" : "exact");
  return true;
}

async function open(from) {
  const kept = image ? edits() : {};
  if ((await load(from, kept)) && image.gates.some(isEdited)) want("exact");
}

function openFile(file) {
  if (!file) return;
  if (file.size > page.bytes) return tell("this file has " + (file.size / 2 ** 20).toFixed(0) + " MiB, and at most " +
    page.bytes / 2 ** 20 + " are taken: scale the image down, or save it as JPEG.");
  const reader = new FileReader();
  reader.onload = () => open({ file: reader.result.slice(reader.result.indexOf(",") + 1) });
  reader.onerror = () => tell("your browser cannot read this file.");
  reader.readAsDataURL(file);
}

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
