// Published numbers beside ours: one panel per metric of a published table, in the colours of where numbers come from.

function besideSection() {
  if (!D.beside.length) return null;
  const errors = D.beside.some((panel) => !panel.predicted);
  const { element, body } = section("beside", "Published beside ours", errors
    ? "Errors (100 less the score) over tokens, both axes logarithmic. Published: ImageNet-1k, ADE20K, COCO and models of 12 to 300 million parameters; ours: the data and models of this page. Slopes can be compared, heights cannot."
    : "Published values over tokens, both axes logarithmic, and what shapes and one efficiency a family predict.");
  const kinds = [["diamond", "var(--published)", "published"]];
  if (errors) kinds.push(["dot", "var(--measured)", "ours, measured (mean over random seeds)"]);
  if (D.beside.some((panel) => panel.predicted)) kinds.push(["square", "var(--predicted)", "ours, predicted from shapes"]);
  body.append(key(kinds));
  const grid = el("div", { class: "panels" });
  D.beside.forEach((panel) => grid.append(besideFigure(panel)));
  body.append(grid);
  return element;
}

function besideFigure(panel) {
  const several = distinct(D.beside.map((one) => one.study)).length > 1;
  const title = `${several ? `${panel.study}: ` : ""}${panel.label}`;
  const figure = el("figure", {}, el("h3", {}, title), plot(besideAlt(panel), () => besidePlot(panel)));
  figure.append(el("figcaption", {}, el("p", {}, `Published: table ${panel.table}.`),
    el("details", {}, el("summary", {}, "Numbers"), besideTable(panel))));
  return figure;
}

function besideAlt(panel) {
  const told = (series) => `${series.name} ${number(series.value[0])} to ${number(series.value[series.value.length - 1])}`;
  return `${panel.label} over tokens. Published: ${panel.published.map(told).join("; ")}. Ours: ${panel.ours.map(told).join("; ")}.`;
}

function besidePlot(panel) {
  const c = palette();
  const own = panel.predicted ? c.predicted : c.measured;
  const ours = panel.predicted ? ["predicted", panel.ours, own, "square"] : ["measured", panel.ours, own, "circle"];
  const kinds = [ours, ["published", panel.published, c.published, "diamond"]];
  const data = kinds.flatMap(([kind, list, colour, symbol]) => list.map((series) => ({
    x: series.tokens, y: series.value, mode: "lines+markers", name: kind, line: { color: clear(colour, 0.45), width: 1.4 },
    marker: { color: colour, symbol, size: 7, opacity: 0.85, line: { color: c.page, width: 1 } },
    text: series.tokens.map((tokens, i) => `${kind}: ${series.name}<br>patch ${series.patch[i] ?? "–"}, ${number(Math.round(tokens))} tokens<br>${panel.label} ${number(series.value[i])}`),
    hovertemplate: "%{text}<extra></extra>",
  })));
  const good = (name) => [...panel.published, ...panel.ours].flatMap((series) => series[name]).filter((value) => value > 0);
  const [xs, ys] = [good("tokens"), good("value")];
  const x = logAxis("tokens", Math.min(...xs), Math.max(...xs), 0.08);
  return { data, layout: layout({ ...x, title: { ...x.title, text: "tokens" } }, logAxis("", Math.min(...ys), Math.max(...ys)), panel.label) };
}

function besideTable(panel) {
  const line = (kind, colour) => (series) => series.tokens.map((tokens, i) => el("tr", {},
    el("td", { style: `color: var(--${colour})` }, kind), el("td", { class: "wrap" }, series.name),
    el("td", { class: "number" }, number(series.patch[i])), el("td", { class: "number" }, number(Math.round(tokens))),
    el("td", { class: "number" }, number(series.value[i]))));
  const own = panel.predicted ? "predicted" : "measured";
  const head = ["", "", "patch", "tokens", panel.label].map((text, i) => (text ? el("th", { scope: "col", class: i > 1 ? "number" : null }, text) : el("td")));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Numbers of ${panel.label}` },
    el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, panel.published.flatMap(line("published", "published")), panel.ours.flatMap(line(own, own)))));
}
