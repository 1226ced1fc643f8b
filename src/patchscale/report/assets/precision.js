// Detectors: precision over recall of every configuration, and AP by object size.

function precisionSection() {
  if (!D.precision) return null;
  const { configurations, curves, sizes, seed } = D.precision;
  const names = configurations.map((axes) => groupLabel(axes));
  const { element, body } = section("precision", "Precision and recall",
    `At an overlap (IoU) of 0.5, mean over classes; random seed ${seed}. Small objects have less than 32 x 32 pixels of area, large ones 96 x 96 or more.`);
  const grid = el("div", { class: "panels" });
  Object.entries(curves).forEach(([kind, lines]) => {
    const areas = lines.map(({ precision }) => mean(precision));
    grid.append(el("figure", {}, el("h3", {}, kind === "box" ? "Boxes" : "Masks"),
      plot(`Precision over recall. AP at this overlap: ${names.map((name, i) => `${name} ${(100 * areas[i]).toFixed(1)} %`).join("; ")}.`,
        () => precisionPlot(lines, configurations, names))));
  });
  body.append(grid);
  body.append(key(configurations.map((axes, i) => ["line", shadeOf(axes.patch_size), names[i]])));
  if (sizes.length) body.append(sizeTable(names, sizes));
  return element;
}

function precisionPlot(lines, configurations, names) {
  const data = lines.map(({ recall, precision }, i) => ({
    x: recall, y: precision, mode: "lines", line: { color: shadeOf(configurations[i].patch_size), width: 2 },
    hovertemplate: `${names[i]}<br>recall %{x:.2f}, precision %{y:.3f}<extra></extra>`,
  }));
  const scale = { ...axis(), range: [0, 1.02], tickvals: [0, 0.25, 0.5, 0.75, 1] };
  return { data, layout: layout({ ...scale, title: { ...scale.title, text: "recall" } }, scale, "precision") };
}

/** Rows: configurations; columns: AP of small, medium and large objects. */
function sizeTable(names, sizes) {
  const head = el("tr", {}, el("th", { scope: "col" }, "configuration"), sizes.map(({ score }) => el("th", { scope: "col", class: "number" }, score)));
  const lines = names.map((name, i) => el("tr", {}, el("th", { scope: "row" }, name),
    sizes.map(({ values }) => el("td", { class: "number" }, values[i] == null ? "–" : `${(100 * values[i]).toFixed(1)} %`))));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "AP by object size" }, el("table", { class: "full" }, el("thead", {}, head), el("tbody", {}, lines)));
}
