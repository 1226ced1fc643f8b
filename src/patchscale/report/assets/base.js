// Data, elements and number formats that every part of the page uses.

let D = JSON.parse(document.getElementById("data").textContent);
let rows = [];

/** Result rows as objects; called again when newer data arrive. */
function readRows() {
  rows = D.rows.map((row) => Object.fromEntries(D.columns.map((name, i) => [name, row[i]])));
}
readRows();

/** An element with attributes (`on...` are listeners) and children; text is always text, never markup. */
function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/** An SVG element from [tag, attributes] pairs. */
function svg(attributes, parts) {
  const space = "http://www.w3.org/2000/svg";
  const make = (tag, given) => {
    const element = document.createElementNS(space, tag);
    Object.entries(given).forEach(([name, value]) => element.setAttribute(name, value));
    return element;
  };
  const root = make("svg", attributes);
  parts.forEach(([tag, given]) => root.append(make(tag, given)));
  return root;
}

const LABELS = {
  test_loss: "test loss", train_loss: "training loss", top1: "top-1", top5: "top-5", top1_error: "top-1 error",
  top5_error: "top-5 error", train_flops: "training FLOPs", flops_per_image: "FLOPs per image", seconds: "time",
  peak_memory_bytes: "peak memory", samples: "samples", samples_seen: "samples", params: "parameters",
  params_without_positions: "parameters, no positions", patch_size: "patch", input_size: "input",
  random_seed: "seed", "task.vision_tokens": "vision tokens", "task.protocol": "protocol", "data.repeats": "repeats", images_per_second: "images/s", loss_drop_last_doubling: "last drop", tokens: "tokens",
};
const label = (name) => LABELS[name] || name.replaceAll("_", " ");
const capital = (text) => text[0].toUpperCase() + text.slice(1);
const modelLabel = (model) => D.labels[model] || String(model);

/** Four significant digits, thousands as digits, very large or small numbers as powers. */
function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return value.toLocaleString("en-US");
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-4)) return value.toExponential(2).replace("e+", "e");
  return String(Number(value.toPrecision(digits)));
}

function scaled(value, base, units, space = " ") {
  let power = 0;
  while (Math.abs(value) >= base && power < units.length - 1) { value /= base; power += 1; }
  return `${Number(value.toPrecision(3))}${space}${units[power]}`;
}

function duration(seconds) {
  if (seconds < 120) return `${Number(seconds.toPrecision(3))} s`;
  if (seconds < 7200) return `${Number((seconds / 60).toPrecision(3))} min`;
  return seconds < 172800 ? `${Number((seconds / 3600).toPrecision(3))} h` : `${Number((seconds / 86400).toPrecision(3))} d`;
}

/** A value in the unit its column has. */
function format(name, value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return name === "model" ? modelLabel(value) : String(value);
  if (/flops/.test(name)) return scaled(value, 1000, ["", "K", "M", "G", "T", "P", "E", "Z"]).trim();
  if (/bytes/.test(name)) return scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
  if (name === "seconds") return duration(value);
  if (/^(samples|params|images_per_second)/.test(name) && value >= 1e4) return scaled(value, 1000, ["", "K", "M", "G", "T"]).trim();
  if (name === "loss_drop_last_doubling") return `${(100 * value).toFixed(1)} %`;
  if (/^(top1|top5)(_error)?$/.test(name)) return `${(100 * value).toFixed(2)} %`;
  return number(value);
}

/** A column, or an error rate derived from an accuracy. */
function valueOf(row, name) {
  if (name in row) return row[name];
  const accuracy = name.endsWith("_error") ? row[name.slice(0, -6)] : null;
  return accuracy === null || accuracy === undefined ? null : 1 - accuracy;
}

const same = (a, b) => String(a) === String(b);
const inGroup = (row, group) => Object.entries(group).every(([name, value]) => same(row[name], value));
const distinct = (values) => [...new Map(values.map((value) => [String(value), value])).values()];
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** "deit_pico · 48 px" for a group of axes. */
function groupLabel(group) {
  return Object.entries(group).filter(([, value]) => value != null).map(([name, value]) => {
    if (name === "model") return modelLabel(value);
    if (name === "input_size") return `${value} px`;
    if (name === "patch_size") return `p ${value}`;
    return name === "study" ? value : `${label(name)} ${value}`;
  }).join(" · ") || "all trials";
}

/** A sentence of laws.json without the group that the page already shows above it. */
function sentence(entry) {
  const group = Object.entries(entry.group).filter(([name]) => name !== "study").map(([name, value]) => `${name}=${value}`).join(", ");
  let text = entry.sentence;
  [`for ${group}: `, `${group}: `].forEach((start) => { if (text.startsWith(start)) text = text.slice(start.length); });
  return capital(text.replaceAll("->", "→").replaceAll("patch_size", "patch size").replaceAll("_loss", " loss"));
}

/** A formula with raised exponents. */
function formula(text) {
  return text.replaceAll(" * ", " · ").replaceAll("_", " ").split(/\^(\(?-?[\d.]+(?:e[-+]?\d+)?\)?)/).map((part, i) => (i % 2 ? el("sup", {}, part.replace("-", "−")) : part));
}

/** Splits objects by some of their columns: [{group, rows}]. */
function groupBy(list, names) {
  const found = new Map();
  for (const row of list) {
    const group = Object.fromEntries(names.map((name) => [name, row[name]]));
    const key = JSON.stringify(group);
    if (!found.has(key)) found.set(key, { group, rows: [] });
    found.get(key).rows.push(row);
  }
  return [...found.values()];
}

const panelAxes = () => D.axes.filter((name) => ["study", "model", "input_size"].includes(name));

function download(name, type, content) {
  const link = el("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const csvCell = (value) => {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
const csv = (header, lines) => [header, ...lines].map((line) => line.map(csvCell).join(",")).join("\n") + "\n";

/** Buttons of which one is pressed. */
function choice(name, options, current, onchange) {
  const box = el("div", { class: "choice", role: "group", "aria-label": name });
  options.forEach(([value, text]) => {
    box.append(el("button", {
      type: "button", "data-value": value, "aria-pressed": String(value === current),
      onclick: (event) => {
        box.querySelectorAll("button").forEach((b) => b.setAttribute("aria-pressed", String(b === event.currentTarget)));
        onchange(value);
      },
    }, text));
  });
  return box;
}

function toggle(text, checked, onchange) {
  const input = el("input", { type: "checkbox", onchange: (event) => onchange(event.target.checked) });
  input.checked = checked;
  return el("label", {}, input, text);
}

/** A section with heading, controls and a note; `fill` gets the element below them. */
function section(id, title, note, controls = []) {
  const body = el("div", { class: "body" });
  const head = el("div", { class: "head" }, el("h2", { id: `${id}-title` }, title));
  if (controls.length) head.append(el("div", { class: "controls" }, controls));
  const element = el("section", { id, "aria-labelledby": `${id}-title` }, head);
  if (note) element.append(el("p", { class: "note" }, note));
  element.append(body);
  return { element, body };
}
