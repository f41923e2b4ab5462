// The page of the gate explorer. The server sends labels, probabilities and gate maps as arrays; colours, opacity,
// comparison and the values under the pointer are computed here. Only editing a gate needs the network.

const SETTLE_MS = 250; // after the last slider event the preview is replaced by the exact picture

const root = document.querySelector("main");
const part = (id) => document.getElementById(id);
const page = await (await fetch("api/page")).json();
const colormap = await unpack(page.colormap);

let image = null; // the open image, see `receive`
let source = null; // {scene} or {file}, to open it again with another model or after its session has expired
let mode = "edited";
let busy = false;
let pending = null; // "preview" or "exact": the request that follows the one in flight
let settleTimer = null;
let shown = 0;

// Arrays: base64 of a zlib stream of bytes

function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

async function unpack(text) {
  const stream = new Blob([fromBase64(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpackPrediction(text, pixels) {
  const planes = await unpack(text);
  return { labels: planes.subarray(0, pixels), percent: planes.subarray(pixels) };
}

// Drawing

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function paint(canvas, height, width, fill) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  picture.data.fill(255);
  fill(picture.data, width * height);
  context.putImageData(picture, 0, 0);
}

function paintRGB(canvas, height, width, rgb) {
  paint(canvas, height, width, (data, pixels) => {
    for (let i = 0; i < pixels; i++) for (let c = 0; c < 3; c++) data[4 * i + c] = rgb[3 * i + c];
  });
}

// (1 - alpha) image + alpha color; storing into clamped bytes rounds half to even, as numpy does.
function overlay(labels, alpha) {
  const { rgb, palette } = image;
  return (data, pixels) => {
    for (let i = 0; i < pixels; i++) {
      const color = palette[labels[i]];
      for (let c = 0; c < 3; c++) data[4 * i + c] = (1 - alpha) * rgb[3 * i + c] + alpha * color[c];
    }
  };
}

function highlight(labels, before) {
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
  const { height, width, edited, learned } = image;
  if (mode === "learned" || mode === "both") paint(part("learned"), height, width, overlay(learned.labels, alpha));
  if (mode === "edited" || mode === "both") paint(part("edited"), height, width, overlay(edited.labels, alpha));
  if (mode === "changed") paint(part("edited"), height, width, highlight(edited.labels, learned.labels));
}

function editedValue(gate, value) {
  return gate.mode === "hold" ? gate.value : Math.min(1, gate.scale * value);
}

function isEdited(gate) {
  return gate.mode === "hold" || gate.scale !== 1;
}

function drawGate(gate) {
  const steps = new Uint8Array(256).map((_, step) => Math.round(255 * editedValue(gate, step / 255)));
  let total = 0;
  paint(gate.canvas, gate.height, gate.width, (data, pixels) => {
    for (let i = 0; i < pixels; i++) {
      const step = steps[gate.map[i]];
      total += step;
      for (let c = 0; c < 3; c++) data[4 * i + c] = colormap[3 * step + c];
    }
  });
  const mean = gate.mean.toFixed(2);
  const now = (total / gate.map.length / 255).toFixed(2);
  gate.meanText.textContent = isEdited(gate) ? "mean " + mean + " → " + now : "mean " + mean;
  gate.card.classList.toggle("edited", isEdited(gate));
  const position = gate.mode === "hold" ? gate.value : gate.scale;
  gate.slider.max = gate.mode === "hold" ? 1 : 2;
  gate.slider.value = position;
  gate.number.textContent = (gate.mode === "hold" ? "= " : "× ") + position.toFixed(2);
  gate.select.value = gate.mode;
}

function swatch(label) {
  const element = make("i", { class: "swatch" });
  element.style.background = "rgb(" + image.palette[label].join() + ")"; // a style attribute would violate the CSP
  return element;
}

function percent(share) {
  return share > 0 && share < 0.0005 ? "< 0.1 %" : (100 * share).toFixed(1) + " %";
}

function drawLegend() {
  const pixels = new Uint32Array(256);
  for (const label of image.edited.labels) pixels[label]++;
  const order = [...pixels.keys()].filter((label) => pixels[label]).sort((a, b) => pixels[b] - pixels[a]);
  part("legend").replaceChildren(...order.map((label) =>
    make("span", {}, swatch(label), image.classes[label], make("small", {}, percent(pixels[label] / image.pixels)))));
}

function table(caption, rows) {
  const largest = Math.max(...rows.map((row) => row[1]), 1e-9);
  const body = rows.map(([name, share]) => {
    const bar = make("div", { class: "fill" });
    bar.style.width = (100 * share) / largest + "%";
    return make("tr", {}, make("th", { scope: "row" }, ...name), make("td", {}, bar), make("td", {}, percent(share)));
  });
  return make("table", {}, make("caption", {}, caption), make("tbody", {}, ...body));
}

function drawChanges(changes) {
  part("changes").hidden = !changes;
  if (!changes) return;
  const classes = Object.entries(changes.by_class).sort((a, b) => b[1] - a[1]).slice(0, 8);
  part("changes").replaceChildren(
    make("h2", {}, percent(changes.share) + " of the pixels changed"),
    make("div", { class: "shares" },
      table("by distance to a boundary, in pixels",
        Object.entries(changes.by_distance).map(([distance, share]) => [[distance], share])),
      table("by class, as learned",
        classes.map(([label, share]) => [[swatch(label), " " + image.classes[label]], share]))),
  );
}

function caption() {
  const names = image.gates.filter(isEdited).map((gate) =>
    "G" + gate.level + (gate.mode === "hold" ? " = " + gate.value : " × " + gate.scale));
  if (mode === "changed") return "changed pixels" + (names.length ? ": " + names.join(", ") : "");
  return names.length ? names.join(", ") : "as learned";
}

function showError(text) {
  part("message").textContent = text || "";
  part("message").hidden = !text;
}

function showStatus(text) {
  part("status").textContent = text;
}

function markShown(state) {
  root.dataset.state = state;
  root.dataset.shown = ++shown;
}

// Requests

async function ask(endpoint, body) {
  try {
    const response = await fetch("api/" + endpoint, { method: "POST", headers: { "content-type": "application/json" },
      body: JSON.stringify(body) });
    if (!response.ok) throw new Error("HTTP " + response.status);
    if (response.headers.get("content-type") === "application/zip") return { archive: await response.blob() };
    const answer = await response.json();
    if (answer.error) showError(answer.error);
    return answer;
  } catch (error) {
    showError("gffnet does not answer: is `gffnet explore` still running?");
    return { error: String(error) };
  }
}

function edits() {
  const edited = {};
  for (const gate of image.gates) {
    if (isEdited(gate)) edited[gate.level] = { scale: gate.scale, value: gate.mode === "hold" ? gate.value : null };
  }
  return edited;
}

// One request at a time: while one is in flight, only the latest edit waits.
async function fuse() {
  if (busy) return;
  busy = true;
  while (pending && image) {
    const preview = pending === "preview" && image.previews;
    pending = null;
    const asked = image;
    const answer = await ask("fuse", { key: asked.key, edits: edits(), preview });
    if (answer.error) break;
    if (answer.expired) {
      if (!(await load(source, edits()))) break;
      if (image.gates.some(isEdited)) pending = "exact";
      continue;
    }
    const prediction = await unpackPrediction(answer.prediction, asked.pixels);
    if (asked !== image) continue;
    image.edited = prediction;
    drawPictures();
    drawLegend();
    drawChanges(Object.keys(edits()).length || answer.changes.share ? answer.changes : null);
    part("caption").textContent = answer.preview ? "rough, while you move" : caption();
    showStatus((answer.preview ? "preview at half the resolution: " : "fused in ") + answer.milliseconds + " ms");
    markShown(answer.preview ? "preview" : pending ? "stale" : "exact");
    if (answer.preview && !pending) settle();
  }
  busy = false;
}

function settle() {
  clearTimeout(settleTimer);
  settleTimer = setTimeout(() => request("exact"), SETTLE_MS);
}

function request(kind) {
  if (kind === "exact") clearTimeout(settleTimer);
  else settle();
  pending = kind;
  fuse();
}

async function save() {
  part("save").disabled = true;
  const answer = await ask("save", { key: image.key, edits: edits(), opacity: part("opacity").value / 100 });
  part("save").disabled = false;
  if (answer.expired && (await load(source, edits()))) return save();
  if (!answer.archive) return;
  const link = make("a", { href: URL.createObjectURL(answer.archive), download: "gffnet-explore.zip" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Opening an image

async function receive(answer, kept) {
  const [height, width] = answer.size;
  const pixels = height * width;
  const learned = await unpackPrediction(answer.prediction, pixels);
  const gates = [];
  for (const sent of answer.gates) {
    const { scale, value } = kept[sent.level] || { scale: 1, value: null };
    const [gateHeight, gateWidth] = sent.size;
    gates.push({ ...sent, map: await unpack(sent.map), height: gateHeight, width: gateWidth, scale,
      value: value === null ? 0 : value, mode: value === null ? "scale" : "hold" });
  }
  return { key: answer.key, classes: answer.classes, palette: answer.palette, height, width, pixels, learned,
    edited: learned, gates, rgb: await unpack(answer.image), previews: answer.previews };
}

async function load(from, kept) {
  root.dataset.state = image ? "loading" : "empty";
  showStatus("encoding the image ...");
  const replaces = image ? image.key : null;
  const answer = await ask("open", { ...from, model: Number(part("model").value), replaces });
  if (answer.error) {
    showStatus("");
    root.dataset.state = image ? "exact" : "empty";
    return false;
  }
  showError("");
  image = await receive(answer, image && image.gates.length === answer.gates.length ? kept : {});
  source = from;
  part("pictures").style.setProperty("--ratio", image.width / image.height);
  part("gate-cards").replaceChildren(...image.gates.map(gateCard));
  image.gates.forEach(drawGate);
  part("without").textContent = answer.without || "";
  part("without").hidden = !answer.without;
  part("gates").dataset.none = answer.without ? "yes" : "no";
  part("save").disabled = false;
  part("reset").disabled = !image.gates.some(isEdited);
  for (const button of part("scenes").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.scene) === from.scene));
  }
  part("caption").textContent = "as learned";
  drawPictures();
  drawLegend();
  drawChanges(null);
  const [height, width] = answer.original_size;
  const reduced = height !== image.height || width !== image.width;
  const [inputHeight, inputWidth] = answer.input_size;
  showStatus(image.width + " x " + image.height + " pixels" +
    (reduced ? ", reduced from " + width + " x " + height + " (--max-side " + page.max_side + ")" : "") +
    (inputHeight !== image.height ? "; the model was trained on smaller images and gets it at " + inputWidth + " x " +
      inputHeight : "") +
    "; encoded in " + answer.milliseconds + " ms");
  markShown(image.gates.some(isEdited) ? "loading" : "exact");
  return true;
}

async function open(from) {
  const kept = image ? edits() : {};
  if ((await load(from, kept)) && image.gates.some(isEdited)) request("exact");
}

function openFile(file) {
  if (!file) return;
  if (file.size > page.max_bytes) return showError("this file has " + (file.size / 2 ** 20).toFixed(0) +
    " MiB, and at most " + page.max_bytes / 2 ** 20 + " are allowed: scale the image down, or save it as JPEG.");
  const reader = new FileReader();
  reader.onload = () => open({ file: reader.result.slice(reader.result.indexOf(",") + 1) });
  reader.onerror = () => showError("your browser cannot read this file.");
  reader.readAsDataURL(file);
}

// Gates

function update(gate, kind) {
  drawGate(gate);
  part("reset").disabled = !image.gates.some(isEdited);
  request(kind);
}

function gateCard(gate) {
  const name = "G" + gate.level;
  gate.canvas = make("canvas", { "aria-label": "Map of gate " + name, role: "img" });
  gate.meanText = make("small", { id: "mean-" + gate.level });
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
    const element = make("button", { type: "button", title: hint, id: text + "-" + gate.level }, text);
    element.addEventListener("click", () => { set(kind, value); update(gate, "exact"); });
    return element;
  };
  gate.slider.addEventListener("input", () => { set(gate.mode, Number(gate.slider.value)); update(gate, "preview"); });
  gate.slider.addEventListener("change", () => request("exact"));
  gate.select.addEventListener("change", () => {
    set(gate.select.value, gate.select.value === "hold" ? Math.round(100 * gate.mean) / 100 : 1);
    update(gate, "exact");
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
  showTipOver(gate.canvas);
  return gate.card;
}

// The values under the pointer

function showTipOver(canvas) {
  const tip = part("tip");
  const hide = () => { tip.hidden = true; };
  canvas.addEventListener("pointerleave", hide);
  canvas.addEventListener("pointercancel", hide);
  for (const kind of ["pointermove", "pointerdown"]) canvas.addEventListener(kind, (event) => {
    if (!image) return;
    const box = canvas.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width;
    const y = (event.clientY - box.top) / box.height;
    if (x < 0 || x >= 1 || y < 0 || y >= 1) return hide();
    const at = Math.floor(y * image.height) * image.width + Math.floor(x * image.width);
    const { learned, edited } = image;
    const overLearned = canvas === part("learned");
    const [here, word, other] = overLearned ? [learned, "edited: ", edited] : [edited, "as learned: ", learned];
    const lines = [make("div", {}, swatch(here.labels[at]), " ", make("b", {}, image.classes[here.labels[at]]),
      " " + here.percent[at] + " %")];
    if (edited.labels[at] !== learned.labels[at]) {
      lines.push(make("div", {}, word, image.classes[other.labels[at]], " " + other.percent[at] + " %"));
    }
    if (image.gates.length) {
      lines.push(make("div", {}, image.gates.map((gate) => {
        const value = gate.map[Math.floor(y * gate.height) * gate.width + Math.floor(x * gate.width)] / 255;
        return "G" + gate.level + " " + (overLearned ? value : editedValue(gate, value)).toFixed(2);
      }).join("   ")));
    }
    tip.replaceChildren(...lines);
    tip.hidden = false;
    const left = event.clientX + 16 + tip.offsetWidth > window.innerWidth ? -16 - tip.offsetWidth : 16;
    tip.style.left = Math.max(4, event.clientX + left) + "px";
    tip.style.top = Math.max(4, Math.min(event.clientY + 16, window.innerHeight - tip.offsetHeight - 4)) + "px";
  });
}

// Event handlers

part("model").addEventListener("change", () => source && open(source));
part("choose").addEventListener("click", () => part("file").click());
part("file").addEventListener("change", () => { openFile(part("file").files[0]); part("file").value = ""; });
part("save").addEventListener("click", save);
part("opacity").addEventListener("input", () => {
  part("opacity-value").textContent = part("opacity").value + " %";
  drawPictures();
});
for (const button of part("modes").children) button.addEventListener("click", () => {
  mode = button.dataset.mode;
  for (const other of part("modes").children) other.setAttribute("aria-pressed", String(other === button));
  part("pictures").dataset.mode = mode;
  if (image) part("caption").textContent = caption();
  drawPictures();
});
part("reset").addEventListener("click", () => {
  for (const gate of image.gates) { Object.assign(gate, { mode: "scale", scale: 1 }); drawGate(gate); }
  part("reset").disabled = true;
  request("exact");
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
showTipOver(part("edited"));
showTipOver(part("learned"));

// What the page needs before an image is opened

paintRGB(part("bar"), 1, 256, colormap);
for (const [number, name] of page.models.entries()) part("model").append(make("option", { value: number }, name));
for (const [number, packed] of page.scenes.entries()) {
  const canvas = make("canvas", {});
  paintRGB(canvas, ...page.thumbnail_size, await unpack(packed));
  const button = make("button", { type: "button", "data-scene": number, "aria-pressed": "false",
    "aria-label": "Example scene " + (number + 1) }, canvas);
  button.addEventListener("click", () => open({ scene: number }));
  part("scenes").append(button);
}
root.dataset.ready = "yes";
