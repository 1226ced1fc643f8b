// Quality beside cost: configurations by FLOPs, time and memory, and those that nothing cheaper beats.

const COST_PANELS = ["train_flops", "seconds", "peak_memory_bytes"];

function costSection() {
  const costs = COST_PANELS.filter((cost) => D.configurations.some((row) => row[cost] > 0) && D.pareto[cost]);
  if (!costs.length) return null;
  const { element, body } = section("cost", "Quality and cost",
    "Each mark is a configuration, mean over random seeds; faint marks are single trials. Nothing measured here is both cheaper and better than the marks on the stepped line (the Pareto set).");
  const models = distinct(D.configurations.map((row) => row.model));
  body.append(key([
    ...models.map((model) => [D.theme.symbols[models.indexOf(model) % D.theme.symbols.length], "var(--measured)", modelLabel(model)]),
    ["step", "var(--ink)", "Pareto set"],
  ]));
  const grid = el("div", { class: "panels" });
  costs.forEach((cost) => {
    const best = D.pareto[cost].map((i) => D.configurations[i]);
    const names = best.map((row) => configurationLabel(row));
    const figure = el("figure", {}, el("h3", {}, capital(D.costs[cost])),
      plot(`${label(D.y)} over ${D.costs[cost]}. Pareto set, cheapest first: ${best.map((row, i) => `${names[i]} (${format(cost, row[cost])}, ${format(D.y, row[D.y])})`).join("; ")}.`, () => costPlot(cost, models)));
    figure.append(el("figcaption", {}, el("details", {}, el("summary", {}, `Pareto set: ${best.length} of ${D.configurations.length}`),
      el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "configuration"), el("th", { scope: "col", class: "number" }, label(cost)), el("th", { scope: "col", class: "number" }, label(D.y)))),
        el("tbody", {}, best.map((row, i) => el("tr", {}, el("td", { class: "wrap" }, names[i]), el("td", { class: "number" }, format(cost, row[cost])), el("td", { class: "number" }, format(D.y, row[D.y])))))))));
    grid.append(figure);
  });
  body.append(grid);
  return element;
}

function configurationLabel(row) {
  return groupLabel(Object.fromEntries(D.axes.filter((name) => name !== "input_size" || distinct([...rows, ...D.unfinished].map((r) => r.input_size)).length > 1).map((name) => [name, row[name]])));
}

function costPlot(cost, models) {
  const c = palette();
  const symbol = (model) => D.theme.symbols[models.indexOf(model) % D.theme.symbols.length];
  const trials = rows.filter((row) => row[cost] > 0 && row[D.y] > 0);
  const means = D.configurations.filter((row) => row[cost] > 0 && row[D.y] > 0);
  const best = D.pareto[cost].map((i) => D.configurations[i]);
  const data = [
    {
      x: trials.map((row) => row[cost]), y: trials.map((row) => row[D.y]), mode: "markers", hoverinfo: "skip",
      marker: { size: 5, symbol: trials.map((row) => symbol(row.model)), color: trials.map((row) => clear(shadeOf(row.patch_size), 0.3)) },
    },
    {
      x: best.map((row) => row[cost]), y: best.map((row) => row[D.y]), mode: "lines", hoverinfo: "skip",
      line: { color: c.ink, width: 1.2, dash: "4px,3px", shape: "hv" },
    },
    {
      x: means.map((row) => row[cost]), y: means.map((row) => row[D.y]), mode: "markers",
      marker: { size: 10, symbol: means.map((row) => symbol(row.model)), color: means.map((row) => shadeOf(row.patch_size)), line: { color: c.page, width: 1 } },
      text: means.map((row) => `${configurationLabel(row)}<br>${label(D.y)} ${format(D.y, row[D.y])}, ${format(cost, row[cost])}<br>mean of ${row.seeds}`),
      hovertemplate: "%{text}<extra></extra>",
    },
  ];
  const x = logAxis(cost, Math.min(...trials.map((row) => row[cost])), Math.max(...trials.map((row) => row[cost])), 0.08, 3);
  const ys = trials.map((row) => row[D.y]);
  return {
    data,
    layout: layout({ ...x, title: { ...x.title, text: D.costs[cost] } }, logAxis(D.y, Math.min(...ys), Math.max(...ys)), label(D.y), {
      annotations: best.length <= 10 ? best.map((row) => ({
        x: Math.log10(row[cost]), y: Math.log10(row[D.y]), text: row.patch_size == null ? "" : `p ${row.patch_size}`, showarrow: false, xanchor: "left", yanchor: "bottom", xshift: 5, yshift: 3, font: { size: 10, color: c.soft },
      })) : [],
    }),
  };
}
