// The page of the gate explorer. The server sends labels, probabilities and gate maps as arrays; colors, opacity,
// comparison, zoom and the values under the pointer are computed here. Only editing a gate needs the network.

const SETTLE_MS = 250; // after the last slider event the preview is replaced by the exact picture
const MAX_ZOOM = 16;

const root = document.querySelector("main");
const part = (id) => document.getElementById(id);
const pictures = part("pictures");
const page = await (await fetch("api/page")).json();
const colormap = await unpack(page.colormap);

let image = null; // the open image, see `receive`
let source = null; // {scene} or {file, name}, to open it again with another model or after its session has expired
let mode = "edited"; // of the picture; "gate": the map of `enlarged`
let enlarged = null;
let isolated = null; // the class under the pointer in the legend, else the one that was clicked
let pinned = null;
let busy = false;
let pending = null; // "preview" or "exact": the request that follows the one in flight
let settleTimer = null;
let shown = 0;
let opened = 0;
let opening = 0; // requests in flight that open an image

// Arrays: base64 of a zlib stream of bytes

async function unpack(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
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

function darken(data, i, rgb, factor) {
  const dark = factor * (0.299 * rgb[3 * i] + 0.587 * rgb[3 * i + 1] + 0.114 * rgb[3 * i + 2]);
  for (let c = 0; c < 3; c++) data[4 * i + c] = dark;
}

// (1 - alpha) image + alpha color; storing into clamped bytes rounds half to even, as numpy does.
function overlay(labels, alpha) {
  const { rgb, palette } = image;
  return (data, pixels) => {
    for (let i = 0; i < pixels; i++) {
      const label = labels[i];
      if (isolated !== null && label !== isolated) { darken(data, i, rgb, 0.25); continue; }
      const color = palette[label];
      for (let c = 0; c < 3; c++) data[4 * i + c] = (1 - alpha) * rgb[3 * i + c] + alpha * color[c];
    }
  };
}

function highlight(labels, before) {
  return (data, pixels) => {
    for (let i = 0; i < pixels; i++) {
      const concerned = isolated === null || labels[i] === isolated || before[i] === isolated;
      if (labels[i] === before[i] || !concerned) darken(data, i, image.rgb, 0.45);
      else for (let c = 0; c < 3; c++) data[4 * i + c] = page.mark[c];
    }
  };
}

function drawPictures() {
  if (!image) return;
  const alpha = part("opacity").value / 100;
  const { height, width, edited, before } = image;
  part("caption").textContent = caption();
  if (mode === "gate") return paint(part("edited"), enlarged.height, enlarged.width, gateColors(enlarged));
  if (mode === "changed") return paint(part("edited"), height, width, highlight(edited.labels, before.labels));
  if (mode !== "learned") paint(part("edited"), height, width, overlay(edited.labels, alpha));
  if (mode !== "edited") paint(part("learned"), height, width, overlay(before.labels, alpha));
}

function show(what, gate = null) {
  mode = what;
  enlarged = gate;
  pictures.dataset.mode = mode;
  for (const button of part("modes").children) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
  for (const other of image.gates) other.card.firstChild.setAttribute("aria-pressed", String(other === gate));
  drawPictures();
}

function gateValue(gate, step) {
  return gate.low + (step / 255) * (gate.high - gate.low);
}

function editedValue(gate, value) {
  return gate.mode === "hold" ? gate.value : Math.min(1, gate.scale * value);
}

function isEdited(gate) {
  return gate.mode === "hold" || gate.scale !== 1;
}

// The range of values that the colors span: that of the learned gate, so that an edit shows.
function shownRange(gate) {
  return part("stretch").checked ? gate.shown : [0, 1];
}

function gateColors(gate) {
  const [low, high] = shownRange(gate);
  const colors = new Uint8ClampedArray(256).map((_, step) =>
    (255 * (editedValue(gate, gateValue(gate, step)) - low)) / (high - low));
  return (data, pixels) => {
    for (let i = 0; i < pixels; i++) {
      const color = 3 * colors[gate.map[i]];
      for (let c = 0; c < 3; c++) data[4 * i + c] = colormap[color + c];
    }
  };
}

function drawGate(gate) {
  paint(gate.canvas, gate.height, gate.width, gateColors(gate));
  gate.ends.forEach((text, end) => { text.textContent = shownRange(gate)[end].toFixed(2); });
  let now = 0;
  gate.histogram.forEach((count, step) => { now += (count / gate.map.length) * editedValue(gate, gateValue(gate, step)); });
  const mean = "mean " + gate.mean.toFixed(2);
  gate.meanText.textContent = isEdited(gate) ? mean + " → " + now.toFixed(2) : mean;
  gate.card.classList.toggle("edited", isEdited(gate));
  const position = gate.mode === "hold" ? gate.value : gate.scale;
  gate.slider.max = gate.mode === "hold" ? 1 : 2;
  gate.slider.value = position;
  gate.number.textContent = (gate.mode === "hold" ? "= " : "× ") + position.toFixed(2);
  gate.select.value = gate.mode;
  if (gate === enlarged) drawPictures();
}

function swatch(label) {
  const element = make("i", { class: "swatch" });
  element.style.background = "rgb(" + image.palette[label].join() + ")"; // a style attribute would violate the CSP
  return element;
}

function percent(share) {
  return share > 0 && share < 0.0005 ? "< 0.1 %" : (100 * share).toFixed(1) + " %";
}

function countOf(bytes) {
  const count = new Uint32Array(256);
  for (const byte of bytes) count[byte]++;
  return count;
}

// Every class once, so that nothing moves under the pointer; those that do not occur are hidden.
function makeLegend() {
  const count = countOf(image.learned.labels);
  const order = [...image.classes.keys()].sort((a, b) => count[b] - count[a]);
  image.legend = order.map((label) => {
    const share = make("small", {});
    const button = make("button", { type: "button", "data-class": label, "aria-pressed": "false" }, swatch(label),
      image.classes[label], share);
    for (const kind of ["pointerenter", "focus"]) button.addEventListener(kind, () => isolate(label));
    for (const kind of ["pointerleave", "blur"]) button.addEventListener(kind, () => isolate(pinned));
    button.addEventListener("click", () => pin(pinned === label ? null : label));
    return { label, button, share };
  });
  pinned = isolated = null;
  part("legend").replaceChildren(...image.legend.map((entry) => entry.button));
}

function drawLegend() {
  const count = countOf(image.edited.labels);
  for (const { label, button, share } of image.legend) {
    button.hidden = !count[label];
    share.textContent = percent(count[label] / image.pixels);
  }
}

function isolate(label) {
  if (isolated === label) return;
  isolated = label;
  drawPictures();
}

function pin(label) {
  pinned = label;
  for (const entry of image.legend) entry.button.setAttribute("aria-pressed", String(entry.label === label));
  isolate(label);
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

function drawChanges({ changes, preview }) {
  part("changes").hidden = !image.gates.some(isEdited) && !changes?.share;
  if (part("changes").hidden) return;
  const classes = Object.entries(changes.by_class).sort((a, b) => b[1] - a[1]).slice(0, 8);
  part("changes").replaceChildren(
    make("h2", {}, percent(changes.share) + " of the pixels changed"),
    make("p", { class: "muted" }, preview ? "preview compared with the preview as learned, both at half the resolution"
      : "exact prediction compared with the exact one as learned"),
    make("div", { class: "shares" },
      table("by distance to a boundary, in pixels",
        Object.entries(changes.by_distance).map(([distance, share]) => [[distance], share])),
      table("by class, as learned",
        classes.map(([label, share]) => [[swatch(label), " " + image.classes[label]], share]))),
  );
}

function caption() {
  if (mode === "gate") return "G" + enlarged.level + ", colors from " + shownRange(enlarged).map((end) =>
    end.toFixed(2)).join(" to ");
  const names = image.gates.filter(isEdited).map((gate) =>
    "G" + gate.level + (gate.mode === "hold" ? " = " + gate.value : " × " + gate.scale));
  return (mode === "changed" ? "changed pixels: " : "") + (names.join(", ") || "as learned") +
    (image.before === image.learned ? "" : ", preview");
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

const withoutGates = part("without").textContent;

// Requests

async function ask(endpoint, body) {
  let answer;
  try {
    const response = await fetch("api/" + endpoint, { method: "POST", headers: { "content-type": "application/json" },
      body: JSON.stringify(body) });
    if (!response.ok) throw new Error("HTTP " + response.status);
    if (response.headers.get("content-type") === "application/zip") return { archive: await response.blob() };
    answer = await response.json();
  } catch (error) {
    answer = { error: "gffnet does not answer: is `gffnet explore` still running?" };
  }
  if (answer.error) showError(answer.error);
  return answer;
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
  while (pending && image && !opening) {
    const preview = pending === "preview";
    pending = null;
    const asked = image;
    const answer = await ask("fuse", { key: asked.key, edits: edits(), preview });
    if (answer.error) break;
    if (answer.expired) {
      if (opening || asked !== image || !(await load(source))) break; // what replaces it is on its way, or there
      if (image.gates.some(isEdited)) pending = "exact";
      continue;
    }
    showError("");
    const prediction = await unpackPrediction(answer.prediction, asked.pixels);
    if (asked !== image) continue;
    image.edited = prediction;
    image.before = answer.preview ? image.preview : image.learned;
    drawPictures();
    drawLegend();
    drawChanges(answer);
    if (!answer.preview) showStatus(percent(answer.changes.share) + " of the pixels changed; fused in " +
      answer.milliseconds + " ms");
    markShown(answer.preview ? "preview" : pending ? "stale" : "exact");
    if (answer.preview && settleTimer && !pending) settle();
  }
  busy = false;
}

function settle() {
  clearTimeout(settleTimer);
  settleTimer = setTimeout(() => request("exact"), SETTLE_MS);
}

function request(kind) {
  clearTimeout(settleTimer);
  settleTimer = null;
  pending = image.preview ? kind : "exact";
  if (pending === "preview") settle();
  fuse();
}

async function save() {
  part("save").disabled = true;
  const asked = image;
  const answer = await ask("save", { key: image.key, edits: edits(), opacity: part("opacity").value / 100 });
  part("save").disabled = false;
  if (answer.expired && !opening && asked === image && (await load(source))) return save();
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
  const preview = answer.preview && (await unpackPrediction(answer.preview, pixels));
  const gates = [];
  for (const sent of answer.gates) {
    const { scale, value } = kept[sent.level] || { scale: 1, value: null };
    const map = await unpack(sent.map);
    gates.push({ ...sent, map, histogram: countOf(map), height: sent.size[0], width: sent.size[1], scale,
      value: value === null ? 0 : value, mode: value === null ? "scale" : "hold" });
  }
  // `before`: what `edited` is compared with, both exact or both previews
  return { key: answer.key, classes: answer.classes, palette: answer.palette, height, width, pixels, learned, preview,
    edited: learned, before: learned, gates, rgb: await unpack(answer.image) };
}

async function load(from) {
  opening++;
  try {
    return await loadImage(from);
  } finally {
    opening--;
  }
}

async function loadImage(from) {
  const number = ++opened;
  root.dataset.state = "loading";
  showStatus("encoding the image ...");
  const replaces = image ? image.key : null;
  const { name, ...what } = from;
  const answer = await ask("open", { ...what, model: Number(part("model").value), replaces });
  if (number !== opened) return false; // another was opened meanwhile
  if (answer.error) {
    if (name) showError(name + ": " + answer.error);
    showStatus("");
    part("drop").textContent = "Drop an image here, paste or open one, or take an example scene. It stays on this machine.";
    root.dataset.state = image ? "exact" : "empty";
    return false;
  }
  showError("");
  image = await receive(answer, image && image.gates.length === answer.gates.length ? edits() : {});
  source = from;
  root.dataset.image = "yes";
  root.style.setProperty("--ratio", image.width / image.height);
  look(1, 0, 0);
  part("gate-cards").replaceChildren(...image.gates.map(gateCard));
  makeLegend();
  show(mode === "gate" ? "edited" : mode);
  image.gates.forEach(drawGate);
  part("without").textContent = answer.without || withoutGates;
  part("gates").dataset.none = answer.without ? "yes" : "no";
  part("save").disabled = false;
  part("reset").disabled = !image.gates.some(isEdited);
  for (const button of part("scenes").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.scene) === from.scene));
  }
  drawLegend();
  part("changes").hidden = true;
  const [height, width] = answer.original_size;
  const reduced = height !== image.height || width !== image.width;
  const [inputHeight, inputWidth] = answer.input_size;
  showStatus(image.width + " x " + image.height + " pixels" +
    (reduced ? ", reduced from " + width + " x " + height + " (--max-side " + page.max_side + ")" : "") +
    (inputHeight !== image.height ? "; the model was trained on smaller images and gets it at " + inputWidth + " x " +
      inputHeight : "") +
    "; opened in " + answer.milliseconds + " ms");
  markShown(image.gates.some(isEdited) ? "loading" : "exact");
  return true;
}

async function open(from) {
  if ((await load(from)) && image.gates.some(isEdited)) request("exact");
  else if (pending) fuse();
}

function openFile(file) {
  if (!file) return;
  if (file.size > page.max_bytes) return showError(file.name + ": this file has " + (file.size / 2 ** 20).toFixed(0) +
    " MiB, and at most " + page.max_bytes / 2 ** 20 + " are allowed: scale the image down, or save it as JPEG.");
  const reader = new FileReader();
  reader.onload = () => open({ file: reader.result.slice(reader.result.indexOf(",") + 1), name: file.name });
  reader.onerror = () => showError(file.name + ": your browser cannot read this file.");
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
  gate.canvas = make("canvas", {});
  const map = make("button", { type: "button", class: "map", "aria-pressed": "false", title: "show it large",
    "aria-label": "Map of gate " + name + ", large" }, gate.canvas);
  map.addEventListener("click", () => (gate === enlarged ? show("edited") : show("gate", gate)));
  const bar = make("canvas", { "aria-hidden": "true" });
  paintRGB(bar, 1, 256, colormap);
  gate.ends = [make("span", {}), make("span", {})];
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
    const element = make("button", { type: "button", title: hint, id: text + "-" + gate.level,
      "aria-label": text + " gate " + name }, text);
    element.addEventListener("click", () => { set(kind, value); update(gate, "exact"); });
    return element;
  };
  gate.slider.addEventListener("input", () => { set(gate.mode, Number(gate.slider.value)); update(gate, "preview"); });
  gate.slider.addEventListener("pointerup", () => settleTimer && request("exact"));
  gate.select.addEventListener("change", () => {
    set(gate.select.value, gate.select.value === "hold" ? Math.round(100 * gate.mean) / 100 : 1);
    update(gate, "exact");
  });
  gate.card = make("div", { class: "gate", role: "group", "aria-label": "Gate " + name }, map,
    make("div", { class: "range" }, gate.ends[0], bar, gate.ends[1]),
    make("div", { class: "gate-name" }, make("b", {}, "G", make("sub", {}, gate.level)),
      make("small", {}, "stride " + gate.stride), gate.meanText),
    make("div", { class: "gate-slide" }, gate.slider, gate.number),
    make("div", { class: "gate-buttons" }, gate.select, button("close", "hold at 0: sends nothing", "hold", 0),
      button("open", "hold at 1: receives nothing", "hold", 1), button("reset", "as learned", "scale", 1)));
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
    const [x, y] = within(canvas, event);
    if (x < 0 || x >= 1 || y < 0 || y >= 1) return hide();
    const at = Math.floor(y * image.height) * image.width + Math.floor(x * image.width);
    const { before, edited } = image;
    const overLearned = canvas === part("learned");
    const [here, word, other] = overLearned ? [before, "edited: ", edited] : [edited, "as learned: ", before];
    const lines = [make("div", {}, swatch(here.labels[at]), " ", make("b", {}, image.classes[here.labels[at]]),
      " " + here.percent[at] + " %")];
    if (edited.labels[at] !== before.labels[at]) {
      lines.push(make("div", {}, word, image.classes[other.labels[at]], " " + other.percent[at] + " %"));
    }
    if (image.gates.length) {
      lines.push(make("div", {}, image.gates.map((gate) => {
        const value = gateValue(gate, gate.map[Math.floor(y * gate.height) * gate.width + Math.floor(x * gate.width)]);
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

function within(element, event) {
  const box = element.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

// Zoom and pan. `view` is the left and upper edge of what is visible, in fractions of the picture, and its magnification.

const view = { zoom: 1, left: 0, top: 0 };
const fingers = new Map(); // by pointer: where it is within the figure, in fractions

function look(zoom, left, top) {
  view.zoom = Math.min(MAX_ZOOM, Math.max(1, zoom));
  view.left = Math.min(1 - 1 / view.zoom, Math.max(0, left));
  view.top = Math.min(1 - 1 / view.zoom, Math.max(0, top));
  for (const [name, value] of Object.entries(view)) pictures.style.setProperty("--" + name, value);
  pictures.classList.toggle("zoomed", view.zoom > 1);
  pictures.classList.toggle("pixels", view.zoom > 4);
  document.querySelector('[data-zoom="0.5"]').disabled = view.zoom === 1;
}

// What was at the point `from` of the figure comes to `to`, magnified by `factor`.
function move(factor, from, to = from) {
  const zoom = Math.min(MAX_ZOOM, Math.max(1, factor * view.zoom));
  look(zoom, view.left + from[0] / view.zoom - to[0] / zoom, view.top + from[1] / view.zoom - to[1] / zoom);
}

function grasp() {
  const points = [...fingers.values()];
  const middle = [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
  const spread = Math.hypot(...points.map((point) => Math.hypot(point[0] - middle[0], point[1] - middle[1])));
  return [middle, spread];
}

for (const canvas of [part("edited"), part("learned")]) {
  const figure = canvas.parentNode;
  showTipOver(canvas);
  canvas.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, within(figure, event));
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const [from, before] = grasp();
    fingers.set(event.pointerId, within(figure, event));
    const [to, after] = grasp();
    move(before ? after / before : 1, from, to);
  });
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) =>
    fingers.delete(event.pointerId));
  canvas.addEventListener("dblclick", (event) => (view.zoom > 1 ? look(1, 0, 0) : move(3, within(figure, event))));
  figure.addEventListener("wheel", (event) => {
    if (view.zoom === 1 && event.deltaY > 0 && !event.ctrlKey) return; // scrolls the page
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode ? 16 : 1);
    move(Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.002)), within(figure, event)); // with ctrlKey: a pinch on a pad
  }, { passive: false });
}
pictures.addEventListener("keydown", (event) => {
  if (event.target !== pictures || event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = { "+": [2, 0, 0], "=": [2, 0, 0], "-": [0.5, 0, 0], 0: [0, 0, 0], ArrowLeft: [1, 0.1, 0],
    ArrowRight: [1, -0.1, 0], ArrowUp: [1, 0, 0.1], ArrowDown: [1, 0, -0.1] };
  if (!(event.key in keys) || (view.zoom === 1 && event.key.startsWith("Arrow"))) return;
  event.preventDefault();
  const [factor, x, y] = keys[event.key];
  move(factor, [0.5, 0.5], [0.5 + x, 0.5 + y]);
});
for (const button of part("zoom").children) button.addEventListener("click", () =>
  move(Number(button.dataset.zoom), [0.5, 0.5]));
part("wipe").addEventListener("input", () => pictures.style.setProperty("--wipe", part("wipe").value / 100));

// Event handlers

part("model").addEventListener("change", () => source && open(source));
part("choose").addEventListener("click", () => part("file").click());
part("file").addEventListener("change", () => { openFile(part("file").files[0]); part("file").value = ""; });
part("save").addEventListener("click", save);
part("opacity").addEventListener("input", () => {
  part("opacity-value").textContent = part("opacity").value + " %";
  drawPictures();
});
part("stretch").addEventListener("change", () => image?.gates.forEach(drawGate));
for (const button of part("modes").children) button.addEventListener("click", () => image && show(button.dataset.mode));
part("reset").addEventListener("click", () => {
  for (const gate of image.gates) { Object.assign(gate, { mode: "scale", scale: 1 }); drawGate(gate); }
  part("reset").disabled = true;
  request("exact");
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) document.addEventListener(kind, (event) => {
  event.preventDefault();
  root.classList.toggle("over", kind === "dragenter" || kind === "dragover");
  if (kind === "drop") openFile(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) openFile(event.clipboardData.files[0]);
  else showError("the clipboard holds no image: copy one, not its address, and paste again.");
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !image) return;
  pin(null);
  if (mode === "gate") show("edited");
});

// What the page needs before an image is opened, and an example at once

for (const [number, name] of page.models.entries()) part("model").append(make("option", { value: number }, name));
part("models").dataset.models = page.models.length;
for (const [number, packed] of page.scenes.entries()) {
  const canvas = make("canvas", {});
  paintRGB(canvas, ...page.thumbnail_size, await unpack(packed));
  const button = make("button", { type: "button", "data-scene": number, "aria-pressed": "false",
    "aria-label": "Example scene " + (number + 1) }, canvas);
  button.addEventListener("click", () => open({ scene: number }));
  part("scenes").append(button);
}
root.dataset.ready = "yes";
open({ scene: 0 });
