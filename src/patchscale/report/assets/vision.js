// Vision tokens: S(n) as measured with every law that was compared, and what n costs of the whole pipeline.

const visionState = { y: null };
const N = "task.vision_tokens";
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const PARTS = [["encoder", "encoder", 0.25], ["fusion", "fusion", 0.5], ["language", "language model", 0.8]];

const visionScores = () => distinct(D.vision.curves.map((curve) => curve.y));
const visionCurves = () => D.vision.curves.filter((curve) => curve.y === visionState.y);
const scoreLabel = (y) => label(y).replace("token accuracy", "words right").replace("exact match", "answers exactly right");
/** A difference of two scores, in points. */
const pointsApart = (value) => signed(100 * value);
const percent = (value, digits = 1) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`);

function visionSection() {
  if (!D.vision) return null;
  const scores = visionScores();
  if (!scores.includes(visionState.y)) visionState.y = scores.find((y) => y.startsWith("dense_token")) || scores[0];
  const again = (y) => {
    visionState.y = y;
    document.getElementById("vision").replaceWith(visionSection());
    document.getElementById("vision-score").focus();
  };
  const select = el("select", { id: "vision-score", onchange: (event) => again(event.target.value) },
    scores.map((y) => el("option", { value: y, selected: y === visionState.y }, scoreLabel(y))));
  const { element, body } = section("vision", "Answers and vision tokens",
    "Each dot is one random seed at n vision tokens; the law with the lowest AICc is drawn solid, the others dashed. Held-out errors are of laws that were fitted without the open dots. Both axes are logarithmic.",
    [el("label", { for: "vision-score" }, "score", select)]);
  body.append(key([["dot", "var(--measured)", "measured, one random seed"], ["line", "var(--predicted)", "laws, fitted to all dots"]]));
  const grid = el("div", { class: "panels" });
  visionCurves().forEach((curve) => grid.append(visionFigure(curve)));
  body.append(grid);
  if (D.vision.costs.length) body.append(el("h3", { class: "apart" }, "What a token costs"), costFigures());
  return element;
}

/** A group without what all curves share, the protocol in words. */
function visionLabel(group, groups = D.vision.curves.map((curve) => curve.group)) {
  const names = Object.keys(group).filter((name) => distinct(groups.map((other) => other[name])).length > 1);
  const words = { nested: "one model for every n", one_each: "one model for each n" };
  const texts = names.map((name) => (name === "task.protocol" ? words[group[name]] || group[name] : groupLabel({ [name]: group[name] })));
  return texts.join(" · ") || "all trials";
}

const visionPoints = (curve) => rows.filter((row) => inGroup(row, curve.group) && row[curve.y] > 0);

function visionFigure(curve) {
  const means = curve.means.map((mean) => `${percent(mean.mean)} at n = ${mean.x}`).join(", ");
  return el("figure", {}, el("h3", {}, visionLabel(curve.group)),
    plot(`${scoreLabel(curve.y)} over vision tokens, ${visionLabel(curve.group)}: mean ${means}.`, () => visionPlot(curve)),
    el("figcaption", {}, el("p", {}, riseSentence(curve)), lawsTable(curve)));
}

/** How far the last mean lies above the first, and where a mean fell. */
function riseSentence({ rise, means }) {
  const [first, last] = [means[0], means[means.length - 1]];
  const ends = rise.low === null ? "" : `, 90 % interval ${[rise.low, rise.high].map(pointsApart).join(" to ")}`;
  const change = rise.difference === null ? "no random seed has both" : `paired over random seeds ${pointsApart(rise.difference)} points${ends}`;
  const falls = rise.falls.length ? `It falls from n = ${rise.falls.map(([a, b]) => `${a} to ${b}`).join(", ")}.` : "It falls nowhere.";
  return `The mean goes from ${percent(first.mean)} at n = ${first.x} to ${percent(last.mean)} at n = ${last.x} (${change}). ${falls}`;
}

function visionPlot(curve) {
  const c = palette();
  const points = visionPoints(curve);
  const data = lawLines(curve.laws, c).map((line) => ({ ...line, hovertemplate: `${line.name}: %{y:.3g} at n = %{x:.3g}<extra></extra>` }));
  const held = (row) => row[N] >= curve.held_from;
  data.push({
    x: points.map((row) => row[N]), y: points.map((row) => row[curve.y]), mode: "markers", name: "measured",
    marker: { color: points.map((row) => (held(row) ? c.page : clear(c.measured, 0.75))), size: 8, line: { color: points.map((row) => (held(row) ? c.measured : c.page)), width: 1.5 } },
    text: points.map((row) => `n = ${row[N]}, seed ${row.random_seed}<br>${scoreLabel(curve.y)} ${percent(row[curve.y])}`),
    hovertemplate: "%{text}<extra></extra>",
  });
  const all = D.vision.curves.filter((other) => other.y === curve.y).flatMap(visionPoints);
  const range = (values) => [Math.min(...values), Math.max(...values)];
  return { data, layout: layout(countAxis(all.map((row) => row[N])), logAxis("score", ...range(all.map((row) => row[curve.y]))), scoreLabel(curve.y)) };
}

/** Lines of laws, best first: solid and thick, then dashed and thin. */
const lawLines = (laws, c) => laws.filter((law) => law.curve).map((law, i) => ({
  x: law.curve.x, y: law.curve.y, mode: "lines", name: law.form.replaceAll("_", " "),
  line: { color: clear(c.predicted, i ? 0.7 : 1), width: i ? 1.2 : 2.2, dash: DASHES[i % DASHES.length] },
}));

/** A log axis over numbers of vision tokens, with those as ticks as far as they leave room. */
function countAxis(values) {
  const counts = distinct(values).sort((a, b) => a - b);
  const shape = logAxis("n", counts[0], counts[counts.length - 1], 0.08);
  let last = -Infinity;
  const ticks = counts.filter((count) => {
    const fits = Math.log10(count) - last > 0.07 * (shape.range[1] - shape.range[0]);
    if (fits) last = Math.log10(count);
    return fits;
  });
  return { ...shape, tickvals: ticks, ticktext: ticks.map(String), title: { ...shape.title, text: "vision tokens n" } };
}

function lawsTable(curve) {
  if (!curve.laws.length) return el("p", {}, curve.sentence);
  const head = ["law", "parameters", "AICc over the best", "error on held-out n"];
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Laws compared, ${visionLabel(curve.group)}` },
    el("table", { class: "full" }, el("thead", {}, el("tr", {}, head.map((text, i) => el("th", { scope: "col", class: i ? "number" : null }, text)))),
      el("tbody", {}, curve.laws.map((law) => el("tr", {}, el("th", { scope: "row" }, law.form.replaceAll("_", " ")),
        el("td", { class: "number" }, law.parameters), el("td", { class: "number" }, law.delta === null ? "–" : law.delta.toFixed(1)),
        el("td", { class: "number" }, percent(law.held_out_error)))))));
}

/** FLOPs of an image by part, and the score over their sum. */
function costFigures() {
  const grid = el("div", { class: "panels" });
  D.vision.costs.forEach(({ group, values }) => {
    const sum = (value) => PARTS.reduce((total, [name]) => total + value[name], 0);
    const [first, last] = [values[0], values[values.length - 1]];
    grid.append(el("figure", {}, el("h3", {}, D.vision.costs.length === 1 ? "Forward FLOPs of an image and its answer" : visionLabel(group, D.vision.costs.map((cost) => cost.group))),
      plot(`FLOPs of an image over vision tokens: ${format("flops", sum(first))} at n = ${first.x}, ${format("flops", sum(last))} at n = ${last.x}.`, () => partsPlot(values)),
      el("figcaption", {}, el("p", {}, `Counted from shapes. At n = ${first.x} the whole costs ${percent(sum(first) / sum(last), 0)} of what it costs at n = ${last.x}: only the language model and the queries get cheaper.`))));
  });
  const models = distinct(visionCurves().map((curve) => JSON.stringify(curve.group)));
  grid.append(el("figure", {}, el("h3", {}, `${scoreLabel(visionState.y).replace(/^./, (letter) => letter.toUpperCase())} over the whole cost`),
    plot(`${scoreLabel(visionState.y)} over forward FLOPs of an image, ${models.length} groups.`, scoreOverCost),
    el("figcaption", {}, key(visionCurves().map((curve, i) => [D.theme.symbols[i % D.theme.symbols.length], "var(--measured)", visionLabel(curve.group)])))));
  const box = el("div", {}, key(PARTS.map(([, text, shade]) => ["square", `color-mix(in srgb, var(--ink) ${100 * shade}%, var(--page))`, text])), grid);
  return box;
}

function partsPlot(values) {
  const c = palette();
  const data = PARTS.map(([name, text, shade]) => ({
    x: values.map((value) => String(value.x)), y: values.map((value) => value[name]), type: "bar", name: text,
    marker: { color: clear(c.ink, shade) }, customdata: values.map((value) => format("flops", value[name])),
    hovertemplate: `${text}, n = %{x}: %{customdata}<extra></extra>`,
  }));
  const top = Math.max(...values.map((value) => PARTS.reduce((sum, [name]) => sum + value[name], 0)));
  const step = 10 ** Math.floor(Math.log10(top)) / (top / 10 ** Math.floor(Math.log10(top)) < 4 ? 2 : 1);
  const ticks = Array.from({ length: Math.floor(top / step) + 1 }, (_, i) => i * step);
  const x = { ...axis(), type: "category", title: { ...axis().title, text: "vision tokens n" } };
  return { data, layout: layout(x, { ...axis(), tickvals: ticks, ticktext: ticks.map((tick) => format("flops", tick)), range: [0, top * 1.05] }, "FLOPs", { barmode: "stack" }) };
}

function scoreOverCost() {
  const c = palette();
  const curves = visionCurves();
  const data = curves.map((curve, i) => {
    const means = curve.means.map((mean) => ({ ...mean, flops: (visionPoints(curve).find((row) => row[N] === mean.x) || {}).flops_per_image })).filter((mean) => mean.flops && mean.mean > 0);
    return {
      x: means.map((mean) => mean.flops), y: means.map((mean) => mean.mean), mode: "lines+markers", name: visionLabel(curve.group),
      line: { color: clear(c.measured, 0.4), width: 1 }, marker: { color: c.measured, size: 8, symbol: D.theme.symbols[i % D.theme.symbols.length] },
      text: means.map((mean) => `${visionLabel(curve.group)}<br>n = ${mean.x}: ${percent(mean.mean)}, ${format("flops", mean.flops)} FLOPs`), hovertemplate: "%{text}<extra></extra>",
    };
  });
  const range = (values) => [Math.min(...values), Math.max(...values)];
  const x = logAxis("flops", ...range(data.flatMap((line) => line.x)), 0.08, 3);
  return { data, layout: layout({ ...x, title: { ...x.title, text: "forward FLOPs of an image" } }, logAxis("score", ...range(data.flatMap((line) => line.y))), "mean score") };
}
