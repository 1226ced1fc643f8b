// Repeated data: test loss, loss on the repeated images and effective model size over the number of repeats.

function repeatSection() {
  const entries = (D.repeats || []).filter((entry) => entry.rows.length);
  if (!entries.length) return null;
  const { element, body } = section("repeats", "What repetition harms",
    "A part of all samples comes from a small subset, each image of it seen as often as the axis says; the rest is seen once, and the number of samples is fixed. Bars: interval of the difference to 1, for all numbers of repeats at once. The effective size is that of a model without repetition that has the same test loss.");
  const shared = Object.keys(entries[0].group).filter((name) => entries.every((entry) => same(entry.group[name], entries[0].group[name])));
  entries.forEach(({ group, y, rows: found, models, notes }) => {
    const own = Object.fromEntries(Object.entries(group).filter(([name]) => entries.length > 1 && !shared.includes(name)));
    if (Object.keys(own).length) body.append(el("h3", {}, groupLabel(own)));
    const lines = groupBy(found, ["model"]).map(({ group: { model }, rows: points }, i, all) => ({ model, points, place: all.length > 1 ? i / (all.length - 1) : 0.5 }));
    const grid = el("div", { class: "panels" });
    const worst = models.map((model) => model.sentence).join(" ");
    grid.append(el("figure", {}, el("h3", {}, capital(label(y))), plot(`${capital(label(y))} over repeats. ${worst}`, () => repeatPlot(lines, "loss", harmBars))));
    if (found.some((row) => row.effective_size)) {
      const shares = lines.map((line) => ({ ...line, points: line.points.filter((row) => row.effective_size) }));
      grid.append(el("figure", {}, el("h3", {}, "Effective size, as a share"), plot(`Effective model size over repeats. ${worst}`, () => repeatPlot(shares, "share", sizeBars))));
    }
    if (y === "copying_loss" && found.some((row) => row.answer_prefix_matching > 0)) {
      grid.append(el("figure", {}, el("h3", {}, "Prefix matching of heads"), plot("Prefix matching over repeats.", () => repeatPlot(lines, "answer_prefix_matching"))));
    }
    if (y === D.y && found.some((row) => row.repeated_loss > 0)) {
      grid.append(el("figure", {}, el("h3", {}, "Loss on the repeated images"), plot("Loss on the repeated images over repeats.", () => repeatPlot(lines, "repeated_loss"))));
    }
    body.append(grid, el("ul", { class: "sentences" }, [...models.map((model) => model.sentence), ...notes].map((text) => el("li", {}, text.replace(/^\w+:/, (name) => `${modelLabel(name.slice(0, -1))}:`)))));
  });
  return element;
}

const repeatValue = (row, name) => (name === "share" ? row.effective_size / row.size : row[name]);
const harmBars = (row) => (row.excess_low === null ? [0, 0] : [row.excess_high - row.excess, row.excess - row.excess_low]);
const sizeBars = (row) => [row.effective_high, row.effective_low].map((end) => (end === null ? 0 : Math.abs(end - row.effective_size) / row.size));

function repeatPlot(lines, name, bars = () => [0, 0]) {
  const shown = lines.map((line) => ({ ...line, points: line.points.filter((row) => repeatValue(row, name) > 0) })).filter((line) => line.points.length);
  const ys = shown.flatMap(({ points }) => points.flatMap((row) => {
    const [up, down] = bars(row);
    const y = repeatValue(row, name);
    return [y + up, Math.max(y - down, y / 2)];
  }));
  const xs = shown.flatMap(({ points }) => points.map((row) => row.repeats));
  const data = shown.map(({ model, points, place }) => ({
    x: points.map((row) => row.repeats), y: points.map((row) => repeatValue(row, name)), mode: "lines+markers",
    line: { color: shadeAt(place), width: 2 }, marker: { color: shadeAt(place), size: 6 },
    error_y: { type: "data", symmetric: false, array: points.map((row) => bars(row)[0]), arrayminus: points.map((row) => bars(row)[1]), color: clear(shadeAt(place), 0.5), thickness: 1, width: 3 },
    hovertemplate: `${modelLabel(model)}<br>%{y:.4g} at %{x} repeats<extra></extra>`,
  }));
  const y = logAxis(name, Math.min(...ys), Math.max(...ys));
  const x = logAxis("repeats", Math.min(...xs), Math.max(...xs));
  const ends = shown.map(({ model, points, place }) => ({ y: repeatValue(points[points.length - 1], name), text: modelLabel(model), colour: shadeAt(place) }));
  return { data, layout: layout({ ...x, title: { ...x.title, text: "repeats of each image of the subset" } }, y, label(name), { annotations: endLabels(ends, y.range, printing ? PRINTED.height : 300), margin: { r: 84 } }) };
}
