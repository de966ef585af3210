// The page of genfast ui. Order: helpers, what the server is asked, the mask, the stage that shows it, the fields that
// a model asks for, the two tasks, and last what ties keys and buttons to them. Addresses are relative: the page lies
// below the token, and so does all that it asks for.

// ---------------------------------------------------------------------------------------------------------- helpers

const $ = (id) => document.getElementById(id);

/** An element with attributes and children; attributes that begin with "on" are listeners. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const plural = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;
const stem = (name) => name.replace(/\.[^.]*$/, "");

/** Say something in passing. */
function toast(text, kind = "note") {
  const line = make("p", { class: `toast ${kind}` }, text);
  $("toasts").append(line);
  setTimeout(() => line.remove(), 3000 + 60 * text.length);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not over plain HTTP from another machine
    const field = make("textarea", { class: "unseen" }, text);
    (document.querySelector("dialog[open]") ?? document.body).append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  toast("Copied");
}

function saveAs(blob, name) {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

// ------------------------------------------------------------------------------------------ what the server is asked

/** The answer to a request as JSON. What is refused becomes an error with the server's line. */
async function ask(address, options) {
  const answer = await reached(fetch(address, options));
  if (!answer.ok) throw new Error(await refusal(answer));
  return answer.json();
}

/** What the server says while it works on an order, event by event. Aborting the signal cancels the work. */
async function* work(address, order, signal) {
  const answer = await reached(fetch(address, { method: "POST", body: JSON.stringify(order), signal }));
  if (!answer.ok) throw new Error(await refusal(answer));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reached(reader.read());
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) yield JSON.parse(part.slice("data: ".length));
  }
}

async function reached(request) {
  try {
    return await request;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("genfast ui does not answer; is it still running?");
  }
}

async function refusal(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text).error;
  } catch {
    return text.trim() || `the server said ${answer.status}`;
  }
}

const post = (address, body, name) => ask(`${address}?name=${encodeURIComponent(name)}`, { method: "POST", body });

// ------------------------------------------------------------------------------------------------------------ the mask

const TINT = getComputedStyle(document.documentElement).getPropertyValue("--tint").trim() || "#d6336c";
const UNDOABLE = 60; // steps: what lies before them is one picture

/** Draw a step of the mask, whose lengths are pixels of the picture, on a canvas that may be scaled. */
function apply(context, step) {
  const [width, height] = step.whole;
  context.globalCompositeOperation = step.erase ? "destination-out" : "source-over";
  if (step.kind === "stroke") {
    for (let i = -1; i < step.points.length - 1; i++) segment(context, step, i);
  } else if (step.kind === "area") {
    context.beginPath();
    for (const [x, y] of step.points) context.lineTo(x, y);
    context.fill();
  } else if (step.kind === "invert") {
    context.globalCompositeOperation = "xor";
    context.fillRect(0, 0, width, height);
  } else {
    context.clearRect(0, 0, width, height);
    if (step.kind === "load") context.drawImage(step.bitmap, 0, 0, width, height);
  }
}

/** One segment of a stroke, so that one drawn bit by bit and one drawn again have the same pixels; -1 is its first dot. */
function segment(context, step, i) {
  const [from, to] = [step.points[Math.max(i, 0)], step.points[i + 1]];
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = step.size;
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}

/** What is to be repainted of a picture, in its full size: white where it is, transparent elsewhere. */
class Mask {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.base = canvas(width, height); // all that can no longer be undone
    this.now = canvas(width, height);
    this.steps = [];
    this.undone = [];
  }

  get empty() {
    const last = this.steps.at(-1);
    return last ? last.kind === "clear" : !this.baked;
  }

  step(kind, more = {}) {
    return { kind, whole: [this.width, this.height], ...more };
  }

  /** Add a step that is drawn already. */
  keep(step) {
    this.steps.push(step);
    this.undone = [];
    if (this.steps.length > UNDOABLE) {
      apply(context(this.base), this.steps.shift());
      this.baked = true;
    }
  }

  add(step) {
    apply(context(this.now), step);
    this.keep(step);
  }

  undo() {
    if (this.steps.length) this.undone.push(this.steps.pop());
    this.redraw();
  }

  redo() {
    if (!this.undone.length) return;
    const step = this.undone.pop();
    apply(context(this.now), step);
    this.steps.push(step);
  }

  redraw() {
    const to = context(this.now);
    to.globalCompositeOperation = "copy";
    to.drawImage(this.base, 0, 0);
    for (const step of this.steps) apply(to, step);
  }

  /** Black and white, as PNG. */
  async png() {
    const sheet = canvas(this.width, this.height);
    const to = context(sheet);
    to.fillStyle = "black";
    to.fillRect(0, 0, this.width, this.height);
    to.drawImage(this.now, 0, 0);
    return new Promise((done) => sheet.toBlob(done, "image/png"));
  }
}

function canvas(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

function context(canvas) {
  // On the processor, not the graphics card: masks are read back all the time, and have the same edges everywhere.
  const found = canvas.getContext("2d", { willReadFrequently: true });
  found.fillStyle = found.strokeStyle = "white";
  return found;
}

function copyOf(source) {
  const made = canvas(source.width, source.height);
  context(made).drawImage(source, 0, 0);
  return made;
}

/** The mean of values [height, width] over squares of 2 * radius + 1, whose edge goes on beyond the picture. */
function boxMean(values, width, height, radius) {
  const pass = (from, lines, length, step, stride) => {
    const to = new Float32Array(from.length);
    for (let line = 0; line < lines; line++) {
      const first = line * stride;
      const at = (i) => from[first + clamp(i, 0, length - 1) * step];
      let sum = 0;
      for (let i = -radius; i <= radius; i++) sum += at(i);
      for (let i = 0; i < length; i++) {
        to[first + i * step] = sum / (2 * radius + 1);
        sum += at(i + radius + 1) - at(i - radius);
      }
    }
    return to;
  };
  return radius ? pass(pass(values, height, width, 1, width), width, height, width, 1) : values;
}

// ----------------------------------------------------------------------------------------------------------- the stage

const stage = {
  picture: null, // {id, name, width, height, address}
  mask: null,
  scale: 1, // pixels of the screen for one of the picture
  zoom: 1,
  tool: "brush",
  size: 64, // of the brush, in pixels of the picture
  edge: { grow: 0, feather: 0 },
  stroke: null, // the step that is being drawn
  under: null, // what is seen of the mask without it
  at: null, // where the brush is, in pixels of the picture
  comparing: false,
};

/** Show a picture that the server holds, with an empty mask. */
async function show(picture, address) {
  const image = $("picture");
  await load(image, address).catch(() => {});
  // Formats that the browser does not know, or turns otherwise than genfast does, are shown by the server.
  const same = image.naturalWidth === picture.width && image.naturalHeight === picture.height;
  if (!same) await load(image, `pictures/${picture.id}/shown`);
  stage.picture = { ...picture, address: image.src };
  stage.mask = new Mask(picture.width, picture.height);
  stage.zoom = 1;
  resize(clamp(Math.max(picture.width, picture.height) / 14, 1, 400));
  image.alt = picture.name;
  $("empty").hidden = true;
  for (const id of ["frame", "tools", "open"]) $(id).hidden = false;
  fills.clear();
  compare(false);
  fit();
  changed();
}

function load(image, address) {
  return new Promise((done, failed) => {
    image.onload = done;
    image.onerror = failed;
    image.src = address;
  });
}

/** Fit the picture into the stage, zoomed, and its mask with it. */
function fit() {
  if (!stage.picture || $("repaint").hidden) return;
  const { width, height } = stage.picture;
  const room = $("stage").getBoundingClientRect();
  const fitted = Math.min((room.width - 32) / width, (room.height - 32) / height, 24);
  if (!(fitted > 0)) return;
  stage.scale = fitted * stage.zoom;
  const frame = $("frame");
  frame.style.width = `${width * stage.scale}px`;
  frame.style.height = `${height * stage.scale}px`;
  frame.classList.toggle("pixels", stage.scale > 3);
  // As many pixels as are seen, and no more than there are, or than are drawn in time.
  const most = Math.min(width * stage.scale * devicePixelRatio, 2200, Math.max(width, 64));
  const view = $("view");
  view.width = Math.max(1, Math.round(most));
  view.height = Math.max(1, Math.round((most * height) / width));
  tint();
  moveCursor();
}

function zoomTo(zoom) {
  stage.zoom = clamp(zoom, 1, 16);
  fit();
}

/** A context of what is seen of the mask, whose lengths are pixels of the picture. */
function viewContext() {
  const view = context($("view"));
  view.setTransform($("view").width / stage.mask.width, 0, 0, $("view").height / stage.mask.height, 0, 0);
  view.fillStyle = view.strokeStyle = TINT;
  return view;
}

/** Show the mask as a tint: as it is grown, and as softly as a fill will fade in from its edge on. */
function tint() {
  const view = viewContext();
  const { width, height } = $("view");
  view.globalCompositeOperation = "copy";
  view.imageSmoothingQuality = "high";
  view.drawImage(stage.mask.now, 0, 0, stage.mask.width, stage.mask.height);
  view.globalCompositeOperation = "source-in";
  view.fillRect(0, 0, stage.mask.width, stage.mask.height);
  const pixels = (length) => Math.round((length * width) / stage.mask.width);
  const grow = pixels(stage.edge.grow);
  const soft = pixels((stage.edge.feather + 1) >> 1);
  if (!grow && !soft) return;
  // The very sums of genfast.inpainting.masks, at the size that is seen.
  const seen = view.getImageData(0, 0, width, height);
  let hole = new Float32Array(width * height);
  for (let i = 0; i < hole.length; i++) hole[i] = seen.data[4 * i + 3] >= 128 ? 1 : 0;
  if (grow) hole = boxMean(hole, width, height, grow).map((share) => (share > 1e-4 ? 1 : 0));
  let weight = hole;
  if (soft) {
    const outside = boxMean(hole.map((x) => 1 - x), width, height, soft);
    weight = boxMean(outside.map((share) => (share > 1e-4 ? 0 : 1)), width, height, soft);
  }
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(TINT.slice(at, at + 2), 16));
  for (let i = 0; i < hole.length; i++) {
    seen.data.set([red, green, blue, hole[i] ? 70 + 185 * weight[i] : 0], 4 * i);
  }
  view.putImageData(seen, 0, 0);
}

/** The mask has changed: show it, and what can be done with it. */
function changed() {
  tint();
  $("undo").disabled = !stage.mask.steps.length;
  $("redo").disabled = !stage.mask.undone.length;
  $("clear").disabled = $("save-mask").disabled = stage.mask.empty;
  repaint.ready();
}

function act(step) {
  compare(false);
  stage.mask.add(stage.mask.step(step));
  changed();
}

function pick(tool) {
  stage.tool = tool;
  compare(false);
}

/** Mark the tool at hand; there is none while pictures are compared. */
function marked() {
  for (const button of document.querySelectorAll("[data-tool]")) {
    const chosen = button.dataset.tool === stage.tool;
    button.setAttribute("aria-checked", chosen && !stage.comparing);
    button.tabIndex = chosen ? 0 : -1;
  }
}

// The slider goes from 1 to a third of the picture, by equal ratios.
const largest = () => Math.max(8, Math.max(stage.picture.width, stage.picture.height) / 3);

function resize(size) {
  stage.size = clamp(size, 1, largest());
  $("size").value = (100 * Math.log(stage.size)) / Math.log(largest());
  $("size").setAttribute("aria-valuetext", plural(Math.round(stage.size), "pixel"));
  moveCursor();
}

/** Where a pointer is in the picture. */
function place(event) {
  const box = $("view").getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * stage.mask.width;
  return [x, ((event.clientY - box.top) / box.height) * stage.mask.height];
}

// A pointer and the keyboard draw by the same three: put the tool down, move it, lift it.

function down(point, erase) {
  compare(false);
  stage.at = point;
  const { tool } = stage;
  const shape = tool === "rectangle" || tool === "lasso" ? "area" : "stroke";
  const more = { erase: erase || tool === "eraser", size: stage.size, points: [point] };
  stage.stroke = stage.mask.step(shape, more);
  if (shape === "stroke") paint(-1);
  else stage.under = copyOf($("view"));
}

function move(point) {
  stage.at = point;
  moveCursor();
  const step = stage.stroke;
  if (!step) return;
  if (step.kind === "stroke") {
    step.points.push(point);
    paint(step.points.length - 2);
    return;
  }
  const [[x, y]] = step.points;
  if (stage.tool === "rectangle") step.points = [[x, y], [point[0], y], point, [x, point[1]]];
  else step.points.push(point);
  outline(step);
}

function lift() {
  const step = stage.stroke;
  stage.stroke = null;
  if (!step) return;
  if (step.kind === "area") apply(context(stage.mask.now), step);
  if (step.kind === "stroke" || step.points.length > 2) stage.mask.keep(step);
  changed();
}

/** Forget what is being drawn. */
function drop() {
  if (!stage.stroke) return;
  stage.stroke = null;
  stage.mask.redraw();
  changed();
}

/** Draw one segment of the stroke, in full and as it is seen. */
function paint(i) {
  for (const to of [context(stage.mask.now), viewContext()]) {
    to.globalCompositeOperation = stage.stroke.erase ? "destination-out" : "source-over";
    segment(to, stage.stroke, i);
  }
}

/** Show an area that is being drawn. */
function outline(step) {
  const view = viewContext();
  view.globalCompositeOperation = "copy";
  view.drawImage(stage.under, 0, 0, stage.mask.width, stage.mask.height);
  view.globalCompositeOperation = "source-over";
  view.lineWidth = 2 / stage.scale;
  view.setLineDash([8 / stage.scale, 5 / stage.scale]);
  view.beginPath();
  for (const point of step.points) view.lineTo(...point);
  view.closePath();
  view.globalAlpha = 0.35;
  view.fill();
  view.globalAlpha = 1;
  view.stroke();
  view.setLineDash([]);
}

function moveCursor() {
  const cursor = $("cursor");
  const area = stage.tool === "rectangle" || stage.tool === "lasso";
  cursor.hidden = !stage.at || stage.comparing;
  if (cursor.hidden) return;
  const size = area ? 10 : stage.size * stage.scale;
  cursor.classList.toggle("cross", area);
  cursor.style.width = cursor.style.height = `${size}px`;
  cursor.style.transform = `translate(${stage.at[0] * stage.scale - size / 2}px, ${stage.at[1] * stage.scale - size / 2}px)`;
}

/** Show the picture before and after, or the mask again. */
function compare(on) {
  stage.comparing = on && !!fills.chosen;
  for (const id of ["after", "compare", "divider"]) $(id).hidden = !stage.comparing;
  $("view").hidden = stage.comparing;
  marked();
  moveCursor();
  if (stage.comparing) slide();
}

function slide() {
  const share = $("compare").value;
  $("after").style.clipPath = `inset(0 0 0 ${share}%)`;
  $("divider").style.left = `${share}%`;
}

function listenToPointers() {
  const view = $("view");
  view.addEventListener("pointerdown", (event) => {
    if (event.button || !event.isPrimary) return;
    event.preventDefault();
    view.focus({ preventScroll: true });
    view.setPointerCapture(event.pointerId);
    down(place(event), event.altKey);
  });
  view.addEventListener("pointermove", (event) => {
    if (!event.isPrimary) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of stage.stroke && events.length ? events : [event]) move(place(each));
  });
  view.addEventListener("pointerup", lift);
  view.addEventListener("pointercancel", drop); // as two fingers that zoom the page
  view.addEventListener("pointerleave", () => {
    if (!stage.stroke) stage.at = null;
    moveCursor();
  });
  view.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const { width, height } = stage.mask;
    if (event.key === " ") {
      if (stage.stroke) lift();
      else down(stage.at ?? [width / 2, height / 2], event.altKey);
    } else if (steps[event.key]) {
      const [x, y] = stage.at ?? [width / 2, height / 2];
      const far = event.shiftKey ? stage.size * 2 : Math.max(1, stage.size / 3);
      const [right, below] = steps[event.key];
      move([clamp(x + right * far, 0, width), clamp(y + below * far, 0, height)]);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

// ----------------------------------------------------------------------------------- the fields that a model asks for

let models = [];

/** The fields of a task, made from what the server says of a model's controls. */
class Fields {
  constructor(form, task, verb, doing, submit) {
    Object.assign(this, { form, task, doing });
    this.values = new Map(); // by control: what was changed, whatever the model
    this.select = make("select", { id: `${task}-model`, onchange: () => this.choose(this.select.value) });
    this.about = make("p", { class: "about" });
    this.list = make("div", { class: "list" });
    this.button = make("button", { class: "primary go", type: "submit" }, verb);
    this.watch = make("input", { type: "checkbox", id: `${task}-watch` });
    this.watch.checked = localStorage.getItem("watch") === "yes";
    this.watch.addEventListener("change", () => localStorage.setItem("watch", this.watch.checked ? "yes" : "no"));
    this.bar = make("progress", { max: 1, "aria-label": "Progress" });
    this.state = make("span", { role: "status" });
    this.share = make("span", { "aria-hidden": "true" }); // which the bar tells, too
    this.progress = make("div", { class: "progress", hidden: true }, make("p", {}, this.state, " ", this.share), this.bar,
      make("button", { type: "button", onclick: () => this.stop?.abort() }, "Cancel"));
    form.append(
      make("label", { class: "field wide" }, make("span", {}, "Model"), this.select), this.about, this.list,
      make("label", { class: "check", title: "By default, as many as cost little time" }, this.watch, " Show every step"),
      make("div", { class: "foot" }, this.button, this.progress));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.button.disabled && !this.stop) submit();
    });
  }

  get model() {
    return models.find((model) => model.name === this.select.value);
  }

  choose(name) {
    const able = models.filter(({ controls }) => controls[this.task]);
    this.select.replaceChildren(...able.map(({ name }) => make("option", { value: name }, name)));
    this.select.value = able.some((model) => model.name === name) ? name : able[0].name;
    const { model } = this;
    this.about.textContent = model.summary;
    this.about.title = model.limits;
    const groups = new Map();
    for (const control of model.controls[this.task]) {
      if (!groups.has(control.group)) groups.set(control.group, []);
      groups.get(control.group).push(this.field(control));
    }
    this.list.replaceChildren(...[...groups].map(([title, fields]) => title
      ? make("details", { open: title === "Edge" }, make("summary", {}, title), make("div", { class: "list" }, ...fields))
      : make("div", { class: "list" }, ...fields)));
    this.update();
  }

  field(control) {
    const id = `${this.task}-${control.name}`;
    const help = make("small", { id: `${id}-help` }, control.help);
    const more = { id, name: control.name, "aria-describedby": help.id };
    const change = () => this.change(control);
    let input;
    if (control.choices.length) {
      const choices = control.choices.map((choice, i) => make("option", { value: choice }, control.texts[i] ?? String(choice)));
      if (control.default === null) choices.unshift(make("option", { value: "" }, "any"));
      input = make("select", { ...more, onchange: change }, ...choices);
    } else {
      const step = control.whole ? 1 : "any";
      input = make("input", { ...more, type: "number", min: control.low, max: control.high, step, required: true, oninput: change });
    }
    const kept = this.values.get(control.name);
    const has = control.choices.length ? control.choices.includes(kept) : control.low <= kept && kept <= control.high;
    if (!has) this.values.delete(control.name); // of another model
    input.value = this.values.get(control.name) ?? control.default ?? "";
    const row = make("div", { class: "entry" }, input);
    if (control.unit) {
      const slider = make("input", { type: "range", min: control.low, max: Math.min(control.high, 100), "aria-label": control.label,
        tabindex: -1, oninput: () => { input.value = slider.value; change(); } });
      slider.value = input.value;
      input.addEventListener("input", () => { slider.value = input.value; });
      row.prepend(slider);
      row.append(make("span", { class: "unit" }, control.unit));
    }
    if (control.name === "seed") {
      const roll = () => { input.value = Math.floor(Math.random() * 1e6); change(); };
      row.append(make("button", { type: "button", class: "tool", title: "Another seed", "aria-label": "Another seed", onclick: roll }, icon("dice")));
    }
    return make("div", { class: control.unit ? "field wide" : "field", "data-control": control.name, title: control.help },
      make("label", { for: id }, control.label), row, help);
  }

  change(control) {
    const input = $(`${this.task}-${control.name}`);
    const number = !control.choices.length || control.choices.some((choice) => typeof choice === "number");
    const value = input.value === "" ? null : number ? Number(input.value) : input.value;
    if (value === control.default || value === null) this.values.delete(control.name);
    else this.values.set(control.name, value);
    this.update();
  }

  /** The value of a control as it stands. */
  value(name) {
    const control = this.model.controls[this.task].find((each) => each.name === name);
    return this.values.get(name) ?? control?.default ?? null;
  }

  wanted(control) {
    return Object.entries(control.when).every(([name, values]) => values.includes(this.value(name)));
  }

  /** Offer of a control's choices those that the class has; one that it has not is dropped. */
  narrow(control) {
    const able = control.of_class[this.value("class")];
    const input = $(`${this.task}-${control.name}`);
    for (const option of input.options) option.hidden = able !== undefined && option.value !== "" && !able.includes(option.value);
    if (!input.selectedOptions[0]?.hidden) return;
    input.value = control.default ?? "";
    this.values.delete(control.name);
  }

  update() {
    for (const control of this.model.controls[this.task]) {
      this.list.querySelector(`[data-control="${control.name}"]`).hidden = !this.wanted(control);
      if (Object.keys(control.of_class).length) this.narrow(control);
    }
    this.onchange?.();
  }

  /** What is sent: what differs from the model's own. */
  order() {
    const own = this.model.controls[this.task].filter((control) => this.wanted(control) && this.values.has(control.name));
    const values = Object.fromEntries(own.map((control) => [control.name, this.values.get(control.name)]));
    return { model: this.model.name, values, watch: this.watch.checked };
  }

  /** Send an order, show how far it is, and hand on what comes. Gives whether it came to its end. */
  async run(address, order, take) {
    this.stop = new AbortController();
    const busy = (on) => {
      this.progress.hidden = !on;
      this.button.hidden = on;
      this.form.classList.toggle("busy", on);
    };
    const say = (text, done) => {
      if (this.state.textContent !== text) this.state.textContent = text;
      this.share.textContent = done === undefined ? "" : `${Math.round(100 * done)} %`;
      if (done === undefined) this.bar.removeAttribute("value");
      else this.bar.value = done;
    };
    busy(true);
    say("Asking …");
    try {
      for await (const event of work(address, order, this.stop.signal)) {
        if (event.error) throw new Error(event.error);
        if (event.waiting) say(event.waiting === 1 ? "Waiting: one is before this" : `Waiting: ${event.waiting} are before this`);
        if (event.state === "loading") say(`Loading ${order.model} …`);
        if (event.done !== undefined) say(this.doing, event.done);
        if (event.note) toast(event.note);
        take(event);
      }
      return true;
    } catch (error) {
      if (error.name === "AbortError") toast("Cancelled");
      else toast(error.message, "error");
      return false;
    } finally {
      this.stop = null;
      busy(false);
      this.form.dataset.done = Number(this.form.dataset.done ?? 0) + 1; // orders, by which tests know that one has ended
    }
  }
}

// ------------------------------------------------------------------------------------------------------------- repaint

const fills = {
  all: [],
  chosen: null,

  clear() {
    this.all = [];
    this.chosen = null;
    $("fills").hidden = true;
    $("fill-row").replaceChildren();
  },

  /** Put the fills of an order before those that are there, and show the first. */
  add(found) {
    this.all.unshift(...found);
    $("fill-row").replaceChildren(...this.all.map((fill, place) => {
      const said = fill.score == null ? "" : fill.score.toFixed(2);
      const title = said ? `Fill ${place + 1}: mean log-probability of its tokens ${said}` : `Fill ${place + 1}`;
      return make("button", { class: "fill", role: "option", title, "aria-label": title,
        onclick: () => (fill === this.chosen && stage.comparing ? compare(false) : this.choose(fill)) },
        make("img", { src: fill.address, alt: "", loading: "lazy" }), make("span", {}, said || String(place + 1)));
    }));
    $("fills").hidden = false;
    this.choose(found[0]);
    fit();
  },

  choose(fill) {
    this.chosen = fill;
    [...$("fill-row").children].forEach((button, place) => button.setAttribute("aria-selected", this.all[place] === fill));
    $("after").src = fill.address;
    $("fill-save").href = fill.address;
    $("fill-save").download = fill.name;
    compare(true);
  },
};

const repaint = {
  /** Open the file of a picture. */
  async open(file) {
    if (!file) return;
    $("stage").classList.add("opening");
    try {
      const picture = await post("pictures", file, file.name);
      await show(picture, URL.createObjectURL(file));
    } catch (error) {
      toast(error.message, "error");
    }
    $("stage").classList.remove("opening");
  },

  /** Show a picture that was drawn here. */
  async take(picture) {
    const { id, name, width, height, address } = picture;
    turnTo("repaint");
    await show({ id, name, width, height }, address);
  },

  async example() {
    const file = await (await fetch("example.webp")).blob();
    await this.open(new File([file], "example.webp"));
    const points = EXAMPLE.map(([x, y]) => [x * stage.mask.width, y * stage.mask.height]);
    stage.mask.add(stage.mask.step("stroke", { size: stage.mask.width / 8, points }));
    changed();
  },

  async loadMask(file) {
    if (!file) return;
    try {
      const { mask, notes } = await post(`pictures/${stage.picture.id}/mask`, file, file.name);
      notes.forEach((note) => toast(note));
      const bitmap = new Image();
      await load(bitmap, mask);
      compare(false);
      stage.mask.add(stage.mask.step("load", { bitmap: transparent(bitmap, stage.mask) }));
      changed();
    } catch (error) {
      toast(error.message, "error");
    }
  },

  ready() {
    fields.repaint.button.disabled = !stage.mask || stage.mask.empty;
    fields.repaint.button.title = fields.repaint.button.disabled ? "Paint over what is to be drawn anew" : "";
  },

  async go() {
    const { picture } = stage;
    const mask = await base64(await stage.mask.png());
    const order = { ...fields.repaint.order(), picture: picture.id, mask };
    const found = [];
    compare(false);
    $("stage").scrollIntoView({ block: "nearest" });
    const whole = await fields.repaint.run("repaint", order, (event) => {
      if (event.preview && stage.picture === picture) preview(event.preview);
      if (event.picture) found.push({ ...event.picture, address: `pictures/${event.picture.id}` });
    });
    preview(null);
    if (whole && found.length && stage.picture === picture) fills.add(found);
  },
};

let previews = 0;

/** Show how a fill comes about: within the mask, since what is sent is small, and around it nothing changes. */
async function preview(address) {
  const turn = ++previews;
  const seen = new Image();
  if (address) await load(seen, address);
  if (turn !== previews) return; // another came meanwhile, or the end
  const coming = $("coming");
  coming.hidden = !address;
  $("view").classList.toggle("faint", !!address);
  if (!address) return;
  const { width, height } = Object.assign(coming, { width: $("view").width, height: $("view").height });
  const to = coming.getContext("2d");
  to.drawImage(seen, 0, 0, width, height);
  to.globalCompositeOperation = "destination-in";
  to.drawImage($("view"), 0, 0);
}

/** A mask of black and white as one of transparency. */
function transparent(bitmap, { width, height }) {
  const sheet = canvas(width, height);
  const to = context(sheet);
  to.drawImage(bitmap, 0, 0);
  const seen = to.getImageData(0, 0, width, height);
  for (let i = 0; i < seen.data.length; i += 4) seen.data[i + 3] = seen.data[i];
  to.putImageData(seen, 0, 0);
  return sheet;
}

function base64(blob) {
  return new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.split(",")[1]);
    reader.readAsDataURL(blob);
  });
}

const EXAMPLE = [[0.42, 0.674], [0.51, 0.664], [0.586, 0.674]]; // the mouth, in shares of the sides

// ---------------------------------------------------------------------------------------------------------------- draw

const gallery = {
  pictures: new Map(), // by tile
  shown: null,

  get tiles() {
    return [...$("gallery").querySelectorAll("button.tile")];
  },

  tile(picture) {
    const said = [picture.class, `seed ${picture.seed}`, `picture ${picture.index}`].filter(Boolean).join(", ");
    const tile = make("button", { class: "tile", title: said, "aria-label": said, onclick: () => this.view(this.tiles.indexOf(tile)) },
      make("img", { src: picture.address, alt: "", class: picture.width < 128 ? "pixels" : "" }));
    this.pictures.set(tile, picture);
    return tile;
  },

  async go() {
    const order = fields.draw.order();
    const n = fields.draw.value("n");
    const seed = fields.draw.value("seed");
    const { width, height } = fields.draw.model;
    const waiting = Array.from({ length: n }, () => make("div", { class: "tile waiting" }));
    waiting.forEach((tile) => { tile.style.aspectRatio = `${width} / ${height}`; });
    $("gallery-empty").hidden = true;
    $("gallery").hidden = false;
    $("gallery").prepend(...waiting);
    $("gallery").scrollIntoView({ block: "start" });
    let index = fields.draw.value("start");
    await fields.draw.run("draw", order, (event) => {
      if (event.preview && waiting.length) {
        waiting[0].replaceChildren(make("img", { src: event.preview, alt: "", class: width < 128 ? "pixels" : "" }));
      }
      if (!event.picture) return;
      const picture = { ...event.picture, seed, index: index++, model: order.model, address: `pictures/${event.picture.id}` };
      waiting.shift()?.replaceWith(this.tile(picture));
    });
    waiting.forEach((tile) => tile.remove());
    $("gallery-empty").hidden = this.pictures.size > 0;
    $("gallery").hidden = !this.pictures.size;
  },

  view(place) {
    const { tiles } = this;
    if (!tiles[place]) return;
    const picture = this.pictures.get(tiles[place]);
    this.shown = picture;
    this.place = place;
    $("viewer-picture").src = picture.address;
    $("viewer-picture").alt = picture.name;
    $("viewer-picture").classList.toggle("pixels", picture.width < 128);
    $("viewer-title").textContent = [picture.model, picture.class, `seed ${picture.seed}`, `picture ${picture.index}`].filter(Boolean).join(" · ");
    $("viewer-command").textContent = picture.command;
    $("viewer-save").href = picture.address;
    $("viewer-save").download = picture.name;
    $("viewer-back").disabled = !place;
    $("viewer-next").disabled = place === tiles.length - 1;
    if (!$("viewer").open) $("viewer").showModal();
  },
};

// ------------------------------------------------------------------------------------------------- keys and buttons

const fields = {
  repaint: new Fields($("repaint-form"), "repaint", "Repaint", "Repainting", () => repaint.go()),
  draw: new Fields($("draw-form"), "draw", "Draw", "Drawing", () => gallery.go()),
};

function turnTo(task) {
  for (const each of ["repaint", "draw"]) {
    $(each).hidden = each !== task;
    $(`tab-${each}`).setAttribute("aria-selected", each === task);
    $(`tab-${each}`).tabIndex = each === task ? 0 : -1;
  }
  $("open").hidden = task !== "repaint" || !stage.picture;
  fit();
}

const KEYS = {
  b: () => pick("brush"),
  e: () => pick("eraser"),
  r: () => pick("rectangle"),
  l: () => pick("lasso"),
  i: () => act("invert"),
  "[": () => resize(stage.size / 1.15),
  "]": () => resize(stage.size * 1.15),
  "+": () => zoomTo(stage.zoom * 1.4),
  "=": () => zoomTo(stage.zoom * 1.4),
  "-": () => zoomTo(stage.zoom / 1.4),
  0: () => zoomTo(1),
  Delete: () => act("clear"),
  Escape: drop,
};

function listenToKeys() {
  addEventListener("keydown", (event) => {
    if ($("repaint").hidden || !stage.mask || $("viewer").open) return;
    const typing = event.target.matches("input:not([type=range]), select, textarea");
    if ((event.ctrlKey || event.metaKey) && !typing) {
      const again = event.key === "y" || (event.shiftKey && event.key.toLowerCase() === "z");
      if (again) redo();
      else if (event.key === "z") undo();
      else if (event.key === "Enter") fields.repaint.form.requestSubmit();
      else return;
      event.preventDefault();
    } else if (!typing && !event.altKey && !event.metaKey && KEYS[event.key]) {
      KEYS[event.key]();
      event.preventDefault();
    }
  });
}

function undo() {
  compare(false);
  stage.mask.undo();
  changed();
}

function redo() {
  compare(false);
  stage.mask.redo();
  changed();
}

function on(id, listener, type = "click") {
  $(id).addEventListener(type, listener);
}

/** Arrow keys go round in a group of which one is chosen. */
function rove(group, choose) {
  group.addEventListener("keydown", (event) => {
    const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!way) return;
    const all = [...group.children];
    const next = all[(all.indexOf(document.activeElement) + way + all.length) % all.length];
    next.focus();
    choose(next);
    event.preventDefault();
  });
}

function listen() {
  listenToPointers();
  listenToKeys();
  for (const task of ["repaint", "draw"]) on(`tab-${task}`, () => turnTo(task));
  rove(document.querySelector(".tabs"), (tab) => tab.click());
  for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => pick(button.dataset.tool));
  rove(document.querySelector("[role=radiogroup]"), (button) => button.click());
  rove($("fill-row"), (button) => button.click());
  for (const id of ["open", "choose"]) on(id, () => $("picture-file").click());
  on("picture-file", ({ target }) => { repaint.open(target.files[0]); target.value = ""; }, "change");
  on("load-mask", () => $("mask-file").click());
  on("mask-file", ({ target }) => { repaint.loadMask(target.files[0]); target.value = ""; }, "change");
  on("save-mask", async () => saveAs(await stage.mask.png(), `${stem(stage.picture.name)}-mask.png`));
  on("example", () => repaint.example());
  on("size", ({ target }) => resize(largest() ** (target.value / 100)), "input");
  on("undo", undo);
  on("redo", redo);
  on("invert", () => act("invert"));
  on("clear", () => act("clear"));
  on("zoom-in", () => zoomTo(stage.zoom * 1.4));
  on("zoom-out", () => zoomTo(stage.zoom / 1.4));
  on("zoom-fit", () => zoomTo(1));
  on("compare", slide, "input");
  on("fill-copy", () => copy(fills.chosen.command));
  on("fill-keep", () => repaint.take({ ...fills.chosen, address: $("after").src }));
  on("draw-first", () => fields.draw.form.requestSubmit());
  on("viewer-close", () => $("viewer").close());
  on("viewer-back", () => gallery.view(gallery.place - 1));
  on("viewer-next", () => gallery.view(gallery.place + 1));
  on("viewer-copy", () => copy(gallery.shown.command));
  on("viewer-repaint", () => {
    const picture = gallery.shown;
    $("viewer").close();
    fields.repaint.choose(picture.model);
    repaint.take(picture);
  });
  on("viewer", (event) => {
    if (event.key === "ArrowLeft") gallery.view(gallery.place - 1);
    if (event.key === "ArrowRight") gallery.view(gallery.place + 1);
  }, "keydown");
  on("viewer", ({ target }) => { if (target === $("viewer")) $("viewer").close(); });
  // A reload, or closing the tab, ends works and forgets what is painted.
  addEventListener("beforeunload", (event) => {
    if (document.querySelector(".form.busy") || !$("undo").disabled) event.preventDefault();
  });
  // A picture may be dropped or pasted anywhere.
  addEventListener("dragover", (event) => { event.preventDefault(); $("drop").hidden = false; });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").hidden = true;
    turnTo("repaint");
    repaint.open(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (file) { turnTo("repaint"); repaint.open(file); }
  });
  new ResizeObserver(fit).observe($("stage"));
}

async function start() {
  listen();
  pick("brush");
  fields.repaint.onchange = () => {
    stage.edge = { grow: fields.repaint.value("grow") ?? 0, feather: fields.repaint.value("feather") ?? 0 };
    if (stage.mask) changed();
    else repaint.ready();
  };
  try {
    const { chosen, models: known } = await ask("models");
    models = known;
    const first = (name) => chosen ?? (known.find((model) => model.name === name) ?? known[0])?.name;
    fields.repaint.choose(first("avatars1024"));
    fields.draw.choose(first("fashion28"));
    document.body.dataset.ready = "yes";
  } catch (error) {
    toast(error.message, "error");
  }
}

start();
