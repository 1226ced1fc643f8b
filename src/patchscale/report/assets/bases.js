// Kept tokens: quality over K for each reducer and model, the fewest that are enough, reducers at equal FLOPs, the frontier.

const basesState = { tolerance: null };

function basesSection() {
  if (!D.bases) return null;
  const { y, minimum_tokens: minimum, interaction, equal_flops: equal, frontier, notes } = D.bases;
  const reduced = rows.filter((row) => row.reducer !== "none");
  const { element, body } = section("bases", "How few tokens are enough",
    "A reducer keeps K of an image's tokens. Lines: means over random seeds, dots: each of them; lighter lines are smaller models. What a model loses by fewer tokens is seen against its own right end.");
  const grid = el("div", { class: "panels" });
  groupBy(reduced, ["reducer"]).forEach(({ group: { reducer }, rows: points }) => {
    const lines = keptLines(points, y);
    const alt = lines.map(({ model, means }) => `${modelLabel(model)}: ${means.map(([kept, value]) => `${number(value)} at ${kept}`).join(", ")}`).join("; ");
    grid.append(el("figure", {}, el("h3", {}, reducer), plot(`${label(y)} over kept tokens by ${reducer}. ${alt}.`, () => keptPlot(lines, reduced, y))));
  });
  body.append(grid, el("h3", { class: "apart" }, "Fewest tokens within a tolerance of the full value"), minimumTable(minimum));
  body.append(el("h3", { class: "apart" }, "Do larger models need fewer?"),
    el("ul", { class: "sentences" }, [...interaction.map((test) => `${test.reducer}: ${test.sentence}`), ...notes].map((text) => el("li", {}, formula(text)))));
  body.append(el("h3", { class: "apart" }, `${capital(label(y))} at equal forward FLOPs, the reducer's own counted`), equalTable(equal));
  body.append(el("h3", { class: "apart" }, "Efficiency frontier: what nothing cheaper beats"), frontierTable(frontier, y));
  return element;
}

/** Models from few to many parameters: {model, points, means: [[K, mean]], place}. */
function keptLines(points, y) {
  const size = ({ rows: own }) => Math.min(...own.map((row) => row.params_without_positions));
  const models = groupBy(points, ["model"]).sort((a, b) => size(a) - size(b));
  return models.map(({ group: { model }, rows: own }, i) => ({
    model, points: own, place: models.length > 1 ? i / (models.length - 1) : 0.5,
    means: groupBy(own, ["kept_tokens"]).map(({ group: { kept_tokens: kept }, rows: at }) => [kept, mean(at.map((row) => row[y]))]).sort((a, b) => a[0] - b[0]),
  }));
}

/** One reducer; all panels share their axes. */
function keptPlot(lines, all, y) {
  const data = lines.flatMap(({ model, points, means, place }) => [
    { x: means.map(([kept]) => kept), y: means.map(([, value]) => value), mode: "lines", line: { color: shadeAt(place), width: 2 }, hoverinfo: "skip" },
    {
      x: points.map((row) => row.kept_tokens), y: points.map((row) => row[y]), mode: "markers", marker: { color: shadeAt(place), size: 6 },
      text: points.map((row) => row.random_seed), hovertemplate: `${modelLabel(model)}, seed %{text}<br>%{y:.4g} at K = %{x}<extra></extra>`,
    },
  ]);
  const [kept, values] = ["kept_tokens", y].map((name) => all.map((row) => row[name]));
  const x = logAxis("kept_tokens", Math.min(...kept), Math.max(...kept));
  const range = logAxis(y, Math.min(...values), Math.max(...values));
  const ends = lines.map(({ model, means, place }) => ({ y: means[means.length - 1][1], text: modelLabel(model), colour: shadeAt(place) }));
  return { data, layout: layout({ ...x, title: { ...x.title, text: "kept tokens K" } }, range, label(y), { annotations: endLabels(ends, range.range, printing ? PRINTED.height : 300), margin: { r: 84 } }) };
}

const toleranceText = ({ tolerance, relative }) => (relative ? `${number(100 * tolerance)} %` : number(tolerance));

/** Rows: reducers; columns: models; a control chooses the tolerance. */
function minimumTable(minimum) {
  const tolerances = distinct(minimum.map(toleranceText));
  if (!tolerances.includes(basesState.tolerance)) basesState.tolerance = tolerances[Math.floor(tolerances.length / 4)];
  const holder = el("div", {});
  const fill = () => {
    const shown = minimum.filter((row) => toleranceText(row) === basesState.tolerance);
    const models = distinct(shown.map((row) => row.group.model));
    const lines = groupBy(shown, ["reducer"]).map(({ group: { reducer }, rows: own }) => [reducer, ...models.map((model) => minimumText(own.find((row) => row.group.model === model)))]);
    holder.replaceChildren(basesTable("Fewest tokens", ["reducer", ...models.map(modelLabel)], lines));
  };
  fill();
  const control = choice("Tolerance", tolerances.map((text) => [text, text]), basesState.tolerance, (text) => { basesState.tolerance = text; fill(); });
  return el("div", {}, el("div", { class: "controls" }, control), holder);
}

function minimumText(row) {
  if (!row) return "–";
  if (row.tokens === null) return "not reached";
  const ends = [row.low, row.high].map((end) => (end === null ? "no end" : number(end, 3)));
  return row.seeds > 1 ? `${number(row.tokens, 3)} (${ends.join(" to ")})` : number(row.tokens, 3);
}

function equalTable(equal) {
  const reducers = Object.keys((equal[0] || { values: {} }).values);
  const cell = (value) => (value ? `${number(value.mean)} (${number(value.low)} to ${number(value.high)})` : "–");
  return basesTable("Reducers at equal FLOPs", ["model", "share of all", ...reducers],
    equal.map((row) => [modelLabel(row.model), `${number(100 * row.share)} %`, ...reducers.map((reducer) => cell(row.values[reducer]))]));
}

function frontierTable(frontier, y) {
  return basesTable("Efficiency frontier", ["FLOPs per image", "model", "reducer", "K", label(y)],
    frontier.map((row) => [format("flops_per_image", row.flops_per_image), modelLabel(row.model), row.reducer, row.kept_tokens, number(row[y])]));
}

function basesTable(name, head, lines) {
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name }, el("table", { class: "full" },
    el("thead", {}, el("tr", {}, head.map((text, i) => el("th", { scope: "col", class: i ? "number" : "" }, text)))),
    el("tbody", {}, lines.map(([first, ...rest]) => el("tr", {}, el("th", { scope: "row" }, first), rest.map((text) => el("td", { class: "number" }, String(text))))))));
}
