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
    element.append(el("div", { class: "findings" }, lists.map(([title, sentences]) => el("div", {}, el("h2", { class: "minor" }, title),
      el("ul", {}, sentences.slice(0, limit).map((sentence) => el("li", {}, sentence))),
      sentences.length > limit ? el("details", {}, el("summary", {}, `${sentences.length - limit} more`), el("ul", {}, sentences.slice(limit).map((s) => el("li", {}, s)))) : null))));
  }
  element.append(el("dl", { class: "facts" }, D.facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))));
  return element;
}

/** Trials that have not finished; only a running or an interrupted study has them. */
function progressBox() {
  if (!D.unfinished.length) return null;
  const states = ["running", "queued", "interrupted", "cancelled", "failed", "waiting"];
  const counts = states.map((state) => [state, D.unfinished.filter((entry) => entry.state === state)]).filter(([, list]) => list.length);
  const told = counts.filter(([state]) => state !== "waiting" && state !== "queued").flatMap(([, list]) => list);
  return el("div", { class: "progress", id: "progress" },
    el("p", {}, `Not finished: ${counts.map(([state, list]) => `${list.length} ${state}`).join(", ")}.`),
    el("ul", { class: "sentences" }, told.map((entry) => el("li", {}, stateLine(entry)))));
}

function stateLine(entry) {
  const name = `${configurationLabel(entry)}, seed ${entry.random_seed}: ${entry.state}`;
  if (entry.state === "failed") return [name, `, ${entry.reason || "no reason given"}`];
  if (!entry.step) return name;
  const left = entry.steps > entry.step ? `, about ${duration((entry.seconds / entry.step) * (entry.steps - entry.step))} of training left` : "";
  return [name, `, step ${number(entry.step)} of ${number(entry.steps)}, loss ${number(entry.loss)}${left} `,
    el("progress", { max: entry.steps, value: entry.step, "aria-label": `${name}, steps done` })];
}

function tokenSection() {
  const { pictures, note } = D.tokens;
  if (!pictures.length && !note) return null;
  const { element, body } = section("tokens", "What the model sees", pictures.length ? `${note} Each square is one token.` : note);
  const sizes = distinct(pictures.map((picture) => picture.input_size));
  body.append(el("div", { class: "tokens" }, pictures.map((picture) => el("figure", {},
    el("img", { src: picture.source, alt: picture.alt, loading: "lazy" }),
    el("figcaption", {}, `${sizes.length > 1 ? `${picture.input_size} px, ` : ""}patch ${picture.patch_size}: ${number(picture.tokens)} token${picture.tokens === 1 ? "" : "s"}${picture.gap ? "" : " (too fine to draw gaps)"}`)))));
  return element;
}

function pairs(entries) {
  return el("div", { class: "scroll" }, el("table", { class: "pairs" }, el("tbody", {}, entries.map(([name, value]) => el("tr", {},
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
