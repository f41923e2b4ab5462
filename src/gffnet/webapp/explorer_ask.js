// The second part of the script: what moving a gate or opening an image asks the server, and what becomes of the answer.

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
  const smaller = answer.seen_at[0] !== image.height;
  say(image.width + " x " + image.height + " pixels" +
    (whole ? ", reduced from " + answer.whole[1] + " x " + answer.whole[0] + " (--max-side " + page.most + ")" : "") +
    (smaller ? "; the model, which learned from smaller images, sees it at " + answer.seen_at[1] + " x " +
      answer.seen_at[0] : "") +
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
