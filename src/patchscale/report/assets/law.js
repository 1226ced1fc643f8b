// The law: one log-log panel per group of the fit, measured points by random seed, fit and band, published on wish.

const lawState = { y: null, form: null, band: true, published: false };

function lawViews() {
  const fitted = distinct(D.laws.map((law) => law.y));
  const derived = D.columns.includes("top1") ? ["top1_error"] : [];
  return distinct([...(fitted.length ? fitted : [D.y]), ...derived]);
}

/** Panels of the chosen view: each group of a law once, with the law of the chosen form; groups of points without one. */
function lawPanels() {
  const fits = D.laws.filter((law) => law.y === lawState.y && !String(law.x).includes(","));
  const groups = fits.length
    ? distinct(fits.map((law) => JSON.stringify(law.group))).map((text) => JSON.parse(text))
    : groupBy(rows, panelAxes()).map((part) => part.group);
  return groups.map((group) => {
    const points = rows.filter((row) => inGroup(row, group) && valueOf(row, lawState.y) > 0);
    return {
      group,
      points,
      law: fits.find((law) => law.form === lawState.form && JSON.stringify(law.group) === JSON.stringify(group)),
      source: points.length && points.every((row) => D.counted.includes(row.study)) ? "predicted" : "measured",
    };
  });
}

const lawX = (panel) => (panel.law ? panel.law.x : fallbackX());
const fallbackX = () => (D.laws.length && !String(D.laws[0].x).includes(",") ? D.laws[0].x : "tokens");

function publishedFor(group, points) {
  if (!lawState.published || lawState.y !== "top1_error") return [];
  const model = String(group.model ?? (points[0] || {}).model ?? "");
  return D.published.filter((point) => model.startsWith(point.family));
}

function lawSection() {
  const views = lawViews();
  if (!views.includes(lawState.y)) lawState.y = views[0];
  const forms = distinct(D.laws.filter((law) => law.y === lawState.y).map((law) => law.form));
  if (!forms.includes(lawState.form)) lawState.form = forms[0] || null;
  const again = () => { const old = document.getElementById("law"); old.replaceWith(lawSection()); };
  const focusBack = (id) => { again(); document.getElementById(id)?.focus(); };
  const controls = [];
  if (views.length > 1) {
    controls.push(choice("Quantity", views.map((y) => [y, label(y)]), lawState.y, (y) => {
      lawState.y = y;
      if (y !== "top1_error") lawState.published = false;
      again();
      document.querySelector(`#law .choice [data-value="${y}"]`).focus();
    }));
  }
  if (forms.length > 1) {
    const select = el("select", { id: "law-form", onchange: (e) => { lawState.form = e.target.value; focusBack("law-form"); } },
      forms.map((form) => el("option", { value: form, selected: form === lawState.form }, form.replaceAll("_", " "))));
    controls.push(el("label", { for: "law-form" }, "form", select));
  }
  if (forms.length) controls.push(toggle("interval", lawState.band, (on) => { lawState.band = on; refreshPlots("law"); }));
  if (D.published.length) {
    const box = toggle("published", lawState.published, (on) => {
      lawState.published = on;
      if (on) lawState.y = "top1_error";
      again();
      document.getElementById("law-published").focus();
    });
    box.querySelector("input").id = "law-published";
    controls.push(box);
  }
  const panels = lawPanels();
  const [measured, counted] = ["measured", "predicted"].map((source) => panels.some((panel) => panel.source === source));
  const confidence = (D.laws[0] || {}).confidence;
  const { element, body } = section("law", "The law",
    `Each dot is one trial${counted && !measured ? ", counted and not trained" : ""}${fallbackX() === "tokens" ? "; finer patches give more tokens, to the right" : ""}. Both axes are logarithmic.${lawState.published ? " Published points: ImageNet-1k, Base models, as error rates, because the tables print accuracies." : ""}`, controls);
  body.append(key([
    ...(measured ? [["dot", "var(--measured)", "measured, one random seed"]] : []),
    ...(counted ? [["dot", "var(--predicted)", D.theme.counted]] : []),
    ...(forms.length ? [["line", "var(--predicted)", confidence ? `fit with ${Math.round(100 * confidence)} % interval` : "fit with interval"]] : []),
    ...(lawState.published ? [["diamond", "var(--published)", "published"]] : []),
  ]));
  const ranges = lawRanges(panels);
  const grid = el("div", { class: "panels" });
  panels.forEach((panel) => grid.append(lawFigure(panel, ranges)));
  body.append(grid);
  if (D.notes.length) body.append(el("ul", { class: "sentences", id: "law-notes" }, D.notes.map((note) => el("li", {}, `Not fitted: ${note}`))));
  return element;
}

/** Ranges that all panels share, so that heights can be compared. */
function lawRanges(panels) {
  const xs = [], ys = [];
  panels.forEach((panel) => {
    panel.points.forEach((row) => { xs.push(row[lawX(panel)]); ys.push(valueOf(row, lawState.y)); });
    publishedFor(panel.group, panel.points).forEach((point) => { xs.push(point.tokens); ys.push(point.error); });
    if (panel.law && panel.law.band) ys.push(...panel.law.band.y);
  });
  const good = (values) => values.filter((value) => value > 0);
  return { x: [Math.min(...good(xs)), Math.max(...good(xs))], y: [Math.min(...good(ys)), Math.max(...good(ys))] };
}

function lawFigure(panel, ranges) {
  const { group, law, points } = panel;
  const figure = el("figure", {}, el("h3", {}, groupLabel(group)), plot(lawAlt(panel), () => lawPlot(panel, ranges)));
  const caption = el("figcaption");
  if (law) {
    caption.append(el("p", { class: "formula" }, formula(law.formula)), el("p", {}, lawShort(law)));
    caption.append(el("details", {}, el("summary", {}, "Parameters and checks"), lawTable(law)));
  } else if (D.laws.length) {
    caption.append(el("p", {}, `No law was fitted to ${label(lawState.y)}.`));
  }
  figure.append(caption);
  return figure;
}

function lawAlt({ group, law, points }) {
  const x = law ? law.x : fallbackX();
  const parts = groupBy(points, [x]).map((part) => [part.group[x], mean(part.rows.map((row) => valueOf(row, lawState.y)))]).sort((a, b) => a[0] - b[0]);
  if (!parts.length) return `${groupLabel(group)}: no finished trial.`;
  const [first, last] = [parts[0], parts[parts.length - 1]];
  const start = `${label(lawState.y)} over ${label(x)}, ${groupLabel(group)}: mean ${format(lawState.y, first[1])} at ${number(first[0])}`;
  return `${start}${parts.length > 1 ? `, ${format(lawState.y, last[1])} at ${number(last[0])}` : ""}.${law ? ` Fit: ${law.formula}.` : ""}`;
}

function lawPlot(panel, ranges) {
  const { group, law, points } = panel;
  const c = palette();
  const name = lawX(panel);
  const data = [];
  const band = lawState.band && law && law.band && law.band.low.some((value) => value > 0);
  if (band) {
    const { x, low, high } = law.band;
    const kept = x.map((_, i) => i).filter((i) => low[i] > 0 && high[i] > 0);
    data.push({
      x: [...kept.map((i) => x[i]), ...kept.map((i) => x[i]).reverse()],
      y: [...kept.map((i) => high[i]), ...kept.map((i) => low[i]).reverse()],
      mode: "lines", fill: "toself", fillcolor: clear(c.predicted, dark() ? 0.2 : 0.15), line: { width: 0 }, hoverinfo: "skip", name: "interval",
    });
  }
  if (law && law.band) {
    data.push({
      x: law.band.x, y: law.band.y, mode: "lines", line: { color: c.predicted, width: 2 }, name: "fit",
      hovertemplate: `fit: %{y:.4g} at %{x:.4g} ${label(name)}<extra></extra>`,
    });
  }
  data.push({
    x: points.map((row) => row[name]), y: points.map((row) => valueOf(row, lawState.y)), mode: "markers", name: panel.source,
    marker: { color: clear(c[panel.source], 0.75), size: 8, line: { color: c.page, width: 1 } },
    text: points.map((row) => `${groupLabel(group)}<br>patch ${row.patch_size ?? "–"}, ${number(row.tokens)} tokens, seed ${row.random_seed ?? "–"}<br>${label(lawState.y)} ${format(lawState.y, valueOf(row, lawState.y))}`),
    hovertemplate: "%{text}<extra></extra>",
  });
  const outside = publishedFor(group, points);
  if (outside.length) {
    data.push({
      x: outside.map((point) => point.tokens), y: outside.map((point) => point.error), mode: "markers", name: "published",
      marker: { color: c.published, symbol: "diamond", size: 8 },
      text: outside.map((point) => `published: ${point.model}, input ${point.input_size}, patch ${point.patch_size}<br>top-1 error ${format("top1_error", point.error)}`),
      hovertemplate: "%{text}<extra></extra>",
    });
  }
  return { data, layout: layout(lawXAxis(name, points, outside, ranges.x), logAxis(lawState.y, ...ranges.y), label(lawState.y)) };
}

/** Tokens as patch sizes where each token count comes from one patch size. */
function lawXAxis(name, points, outside, range) {
  const shape = logAxis(name, ...range, 0.08);
  const ticks = groupBy(points, [name, "patch_size"]).map((part) => part.group).sort((a, b) => b[name] - a[name]);
  const clear = !outside.length && name === "tokens" && ticks.every((t) => t.patch_size != null) && new Set(ticks.map((t) => t.tokens)).size === ticks.length;
  if (!clear) return { ...shape, title: { ...shape.title, text: label(name) } };
  const span = shape.range[1] - shape.range[0];
  let last = Infinity;
  const shown = ticks.filter((tick) => {
    const fits = last - Math.log10(tick.tokens) > 0.09 * span;
    if (fits) last = Math.log10(tick.tokens);
    return fits;
  });
  return {
    ...shape, tickvals: shown.map((t) => t.tokens),
    ticktext: shown.map((t) => `${t.patch_size}<br><span style="font-size:10px">${number(t.tokens)}</span>`),
    title: { ...shape.title, text: "patch size, tokens below" },
  };
}

/** The exponent with its interval, or that the data do not identify it; then how well held-out points were met. */
function lawShort(law) {
  const parts = Object.entries(law.params).filter(([name, param]) => name === "exponent" || !param.identified).map(([name, param]) => (param.identified
    ? `${name} ${number(param.value, 3)} (${number(param.low, 3)} to ${number(param.high, 3)})` : `${name} not identified`));
  parts.push(`${law.points} points`);
  return parts.join(", ");
}

function lawTable(law) {
  const body = Object.entries(law.params || {}).map(([name, param]) => el("tr", {},
    el("th", { scope: "row" }, name), el("td", { class: "number" }, number(param.value)),
    el("td", { class: "number" }, param.low === null || param.low === undefined ? "–" : `${number(param.low)} to ${number(param.high)}`),
    el("td", { class: "wrap" }, param.identified ? "identified" : `not identified${param.reason ? `: ${param.reason}` : ""}`)));
  const checks = [`${law.points} points`, `form ${law.form}`];
  if (law.starts) checks.push(`${law.starts.agree} of ${law.starts.tried} starts agree`);
  if (typeof law.rms_log_residual === "number") checks.push(`rms log residual ${number(law.rms_log_residual, 3)}`);
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Parameters of ${groupLabel(law.group)}` },
    el("table", {}, el("thead", {}, el("tr", {}, ["parameter", "value", `${Math.round(100 * (law.confidence || 0.9))} % interval`, ""].map((text, i) => (text ? el("th", { scope: "col", class: i === 1 || i === 2 ? "number" : null }, text) : el("td"))))), el("tbody", {}, body)),
    el("p", {}, sentence(law)), el("p", {}, `${checks.join(" · ")}${law.source ? ` · ${law.source}` : ""}`));
}
