// Every trial: sort by any column, filter by words or column=value, open its configuration, take the data along.

const tableState = { sort: null, down: false, filter: "", all: false };
const FIRST = ["trial", "study", "model", "patch_size", "input_size", "tokens", "random_seed"];
const LAST = ["test_loss", "top1", "loss_drop_last_doubling", "train_flops", "seconds", "peak_memory_bytes"];

function tableColumns() {
  if (tableState.all) return D.columns;
  const axes = D.axes.filter((name) => !FIRST.includes(name));
  const first = FIRST.filter((name) => !["study", "input_size"].includes(name) || D.axes.includes(name));
  const scores = D.columns.includes(D.y) && !LAST.includes(D.y) ? [D.y] : [];
  return [...first, ...axes, ...scores, ...LAST].filter((name) => D.columns.includes(name));
}

/** Rows that hold every word of the filter; `column=value` asks for that value exactly. */
function tableRows() {
  const words = tableState.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const kept = rows.filter((row) => words.every((word) => {
    const [name, value] = word.split("=");
    if (value !== undefined && D.columns.includes(name)) return String(row[name]).toLowerCase() === value;
    return D.columns.some((column) => String(row[column]).toLowerCase().includes(word));
  }));
  if (!tableState.sort) return kept;
  const way = tableState.down ? -1 : 1;
  const of = (row) => row[tableState.sort];
  return [...kept].sort((a, b) => {
    const [x, y] = [of(a), of(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return way * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
  });
}

function tableSection() {
  if (!rows.length) return null;
  const controls = [
    el("label", {}, el("span", { class: "unseen" }, "Filter trials"), el("input", {
      type: "search", id: "filter", placeholder: "filter: patch_size=8", autocomplete: "off", spellcheck: "false",
      oninput: (event) => { tableState.filter = event.target.value; fillTable(); },
    })),
    toggle("all columns", tableState.all, (on) => { tableState.all = on; fillTable(); }),
    el("button", { type: "button", id: "csv", onclick: () => download("results.csv", "text/csv", D.csv) }, "results.csv"),
    el("button", { type: "button", id: "csv-filtered", onclick: () => download("filtered.csv", "text/csv", csv(D.columns, tableRows().map((row) => D.columns.map((name) => row[name])))) }, "filtered.csv"),
    el("button", { type: "button", id: "csv-curves", onclick: () => download("curves.csv", "text/csv", curvesCsv()) }, "curves.csv"),
  ];
  const { element, body } = section("trials", "Trials", "Exact values; hover a number for all its digits, open a trial for its configuration.", controls);
  element.querySelector("#filter").value = tableState.filter;
  body.append(el("p", { class: "note", id: "count", role: "status", style: "margin-bottom:.5rem" }),
    el("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Table of trials" }, el("table", { class: "full", id: "table" })));
  fillTable(element);
  return element;
}

function fillTable(root = document) {
  const names = tableColumns();
  const found = tableRows();
  const numeric = (name) => rows.some((row) => typeof row[name] === "number") && !["random_seed", "patch_size"].includes(name) ? "number" : "";
  const head = el("thead", {}, el("tr", {}, names.map((name) => {
    const sorted = tableState.sort === name;
    return el("th", { scope: "col", class: numeric(name), "aria-sort": sorted ? (tableState.down ? "descending" : "ascending") : null },
      el("button", {
        type: "button", "data-column": name,
        onclick: () => {
          Object.assign(tableState, { down: sorted && !tableState.down, sort: name });
          fillTable();
          document.querySelector(`#table [data-column="${name}"]`).focus();
        },
      }, `${label(name)}${sorted ? (tableState.down ? " ↓" : " ↑") : ""}`));
  })));
  const body = el("tbody", {}, found.map((row) => el("tr", {}, names.map((name) => {
    const value = row[name];
    if (name === "trial") return el("td", {}, el("a", { href: `#trial-${value}`, class: "mono" }, String(value)));
    const text = typeof value === "number" && !Number.isInteger(value) && format(name, value) === number(value) ? value.toPrecision(4) : format(name, value);
    return el("td", { class: numeric(name), title: value === null || String(value) === text ? null : String(value), "data-value": value }, text);
  }))));
  root.querySelector("#table").replaceChildren(head, body);
  root.querySelector("#count").textContent = found.length === rows.length ? `${rows.length} trials` : `${found.length} of ${rows.length} trials`;
}

function curvesCsv() {
  const names = curveColumns();
  const places = distinct(Object.values(D.curves).flat().flatMap(({ at }) => Object.keys(at)));
  const lines = Object.entries(D.curves).flatMap(([trial, curves]) => curves.flatMap(({ at, lines }) =>
    lines.samples.map((_, i) => [trial, ...places.map((axis) => at[axis]), ...names.map((name) => (lines[name] ? lines[name][i] : null))])));
  return csv(["trial", ...places, ...names], lines);
}

/** The dialog of one trial: what is its own, its results, and what it shares with all others. */
function showTrial(trial) {
  const row = rows.find((candidate) => candidate.trial === trial);
  const own = D.config.trials[trial];
  if (!row && !own) return;
  const dialog = document.getElementById("trial");
  const close = () => { dialog.close(); };
  dialog.replaceChildren(
    el("header", {}, el("h2", { id: "trial-title" }, "Trial ", el("span", { class: "mono" }, trial)), el("button", { type: "button", onclick: close, autofocus: true }, "Close")),
    el("div", { class: "inside" },
      own && Object.keys(own).length ? el("div", {}, el("h3", {}, "Its own settings"), pairs(Object.entries(own))) : null,
      row ? el("div", {}, el("h3", {}, "Result"), pairs(D.columns.map((name) => [name, row[name]]))) : null,
      Object.keys(D.config.common).length ? el("div", {}, el("h3", {}, "Settings that all trials share"), pairs(Object.entries(D.config.common))) : null));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}
