// Overview, configuration and provenance.

function overview() {
  const element = el("section", { class: "overview", id: "overview", "aria-labelledby": "title" },
    el("h1", { id: "title" }, D.title), el("p", { class: "lead", id: "verdict" }, D.verdict));
  const open = progressBox();
  if (open) element.append(open);
  const lists = [];
  if (D.laws.length) lists.push(["The law", D.laws.filter((law) => law.form === D.laws[0].form && law.y === D.y).map((law) => [`${groupLabel(law.group)}: `, formula(law.formula), `; ${lawShort(law)}`])]);
  if (D.inversions.length) lists.push(["Inversions", D.inversions.map((entry) => `${groupLabel(entry.group)}: ${sentence(entry)}`)]);
  if (D.falling.length) lists.push(["Still falling when training ended", D.falling]);
  const limit = 6;
  if (lists.length) {
    element.append(el("div", { class: "findings" }, lists.map(([title, sentences]) => el("div", {}, el("h3", {}, title),
      el("ul", {}, sentences.slice(0, limit).map((sentence) => el("li", {}, sentence))),
      sentences.length > limit ? el("details", {}, el("summary", {}, `${sentences.length - limit} more`), el("ul", {}, sentences.slice(limit).map((s) => el("li", {}, s)))) : null))));
  }
  element.append(el("dl", { class: "facts" }, D.facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))));
  return element;
}

/** Trials that have not finished; only a running or an interrupted study has them. */
function progressBox() {
  if (!D.progress.length) return null;
  const started = D.progress.filter((note) => Object.keys(note).length > 1);
  const lines = started.map((note) => {
    const trial = openRow(note);
    const parts = Object.entries(note).filter(([name, value]) => !["trial"].includes(name) && value !== null).map(([name, value]) => `${label(name)} ${format(name, value)}`);
    return `${groupLabel({ model: trial.model, input_size: trial.input_size, patch_size: trial.patch_size })}, seed ${trial.random_seed}: ${parts.join(", ")}`;
  });
  return el("div", { class: "progress", id: "progress" },
    el("p", {}, `${D.progress.length} trial${D.progress.length === 1 ? " has" : "s have"} not finished.`),
    el("ul", { class: "sentences" }, lines.map((line) => el("li", {}, line))));
}

function pairs(entries) {
  return el("div", { class: "scroll" }, el("table", {}, el("tbody", {}, entries.map(([name, value]) => el("tr", {},
    el("th", { scope: "row" }, name), el("td", { class: "wrap" }, value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value)))))));
}

function aboutSection() {
  const { element, body } = section("about", "Configuration and provenance", null);
  const common = Object.entries(D.config.common);
  body.append(el("div", { class: "two" },
    common.length ? el("div", {}, el("h3", {}, "Settings that all trials share"), pairs(common)) : null,
    el("div", {}, el("h3", {}, "Where the numbers come from"), pairs(D.provenance))));
  return element;
}
