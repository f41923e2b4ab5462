// The page's side of the explorer. It gets labels, probabilities and gate maps as numbers and draws them itself: colours,
// opacity, comparison and the hover need no question to the server; only moving a gate does.
// `element`, `props` and `server` are what gradio gives the script of a component. Its other parts are explorer_ask.js,
// which asks and moves gates, and explorer_wire.js, which starts it; they run in this order, as one function.

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
