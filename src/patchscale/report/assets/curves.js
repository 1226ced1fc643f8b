// Learning curves: mean over random seeds by configuration, single seeds behind it, budget on the axis of choice.

const curveState = { x: "samples", y: null };
const BUDGETS = ["samples", "train_flops", "seconds"];

function curveSection() {
  const trials = rows.filter(curveOf);
  const columns = curveColumns();
  const scores = columns.filter((name) => ![...BUDGETS, "peak_memory_bytes"].includes(name));
  if (!scores.length) return null;
  const views = distinct([scores.includes(D.y) ? D.y : scores[0], ...(scores.includes("top1") ? ["top1_error"] : [])]);
  if (!views.includes(curveState.y)) curveState.y = views[0];
  const budgets = BUDGETS.filter((name) => columns.includes(name));
  const names = { samples: "samples", train_flops: "FLOPs", seconds: "time" };
  const controls = [choice("Training budget", budgets.map((name) => [name, names[name]]), curveState.x, (x) => { curveState.x = x; refreshPlots("curves"); })];
  if (views.length > 1) controls.unshift(choice("Quantity", views.map((y) => [y, label(y)]), curveState.y, (y) => { curveState.y = y; refreshPlots("curves"); }));
  const open = D.unfinished.flatMap((entry) => (D.curves[entry.trial] || []).map(({ at }) => ({ ...entry, ...at, open: true })));
  const shades = distinct(Object.values(D.lines).map(({ axis }) => (axis === "patch_size" ? "the finer the patch" : `the more ${label(axis)}`)));
  const { element, body } = section("curves", "Learning curves",
    `Thick: mean over random seeds. ${capital(shades.join(" or "))}, the stronger the line.${D.falling_trials.length ? " ↓ marks curves that were still falling at the end." : ""}`, controls);
  const grid = el("div", { class: "panels" });
  curvePanels([...trials, ...open]).forEach(({ group, rows: part }) => {
    const end = linesOf(part.filter((row) => !row.open)).map((line) => `${groupLabel(line.group)}: ${format(D.y, mean(line.rows.map((row) => row[D.y])))}`);
    grid.append(el("figure", {}, el("h3", {}, groupLabel(group)),
      plot(`Learning curves of ${groupLabel(group)}. Final mean ${label(D.y)}: ${end.join("; ")}.`, () => curvePlot(part))));
  });
  body.append(grid);
  return element;
}

/** The curve of a row: its trial's, at the row's own value where one model was measured at several. */
const curveOf = (row) => (D.curves[row.trial] || []).find(({ at }) => inGroup(row, at));
const curveColumns = () => distinct(Object.values(D.curves).flat().flatMap(({ lines }) => Object.keys(lines)));

/** Panels for every axis but the one that tells the lines of a study apart. */
const curvePanels = (all) => groupBy(all, ["study"]).flatMap(({ group, rows: part }) => groupBy(part, D.axes.filter((axis) => axis !== D.lines[group.study].axis)));
const linesOf = (part) => (part.length ? groupBy(part, [D.lines[part[0].study].axis]) : []);

/** The shade of a line, by its place among the values of its axis. */
function lineShade(study, group) {
  const { axis, values } = D.lines[study];
  return values.length > 1 ? shadeAt(values.findIndex((value) => same(value, group[axis])) / (values.length - 1)) : palette().measured;
}

function curvePoints(row) {
  const curve = curveOf(row).lines;
  const derived = curveState.y.endsWith("_error") ? curve[curveState.y.slice(0, -6)].map((v) => 1 - v) : curve[curveState.y];
  const points = curve[curveState.x].map((x, i) => [x, derived[i]]).filter(([x, y]) => x > 0 && y > 0);
  return { x: points.map((p) => p[0]), y: points.map((p) => p[1]) };
}

function curvePlot(part) {
  const c = palette();
  const data = [], ends = [], xs = [], ys = [];
  linesOf(part).forEach(({ group, rows: seeds }) => {
    const colour = lineShade(seeds[0].study, group);
    const curves = seeds.map(curvePoints);
    const named = groupLabel(group);
    curves.forEach((curve, i) => {
      xs.push(...curve.x); ys.push(...curve.y);
      if (curves.length > 1) {
        data.push({ ...curve, mode: "lines", line: { color: clear(colour, 0.3), width: 1 }, hovertemplate: `${named}, seed ${seeds[i].random_seed}<br>%{y:.4g}<extra></extra>` });
      }
    });
    const finished = curves.filter((_, i) => !seeds[i].open);
    const length = Math.min(...(finished.length ? finished : curves).map((curve) => curve.x.length));
    if (!length) return;
    const used = finished.length ? finished : curves;
    const middle = {
      x: used[0].x.slice(0, length).map((_, i) => mean(used.map((curve) => curve.x[i]))),
      y: used[0].x.slice(0, length).map((_, i) => mean(used.map((curve) => curve.y[i]))),
    };
    const falling = seeds.some((row) => D.falling_trials.includes(row.trial));
    data.push({
      ...middle, mode: "lines+markers", line: { color: colour, width: 2.2 }, marker: { color: colour, size: 4 },
      text: middle.x.map((x) => format(curveState.x, x)),
      hovertemplate: `${named}, mean of ${used.length}<br>${label(curveState.y)} %{y:.4g} at %{text}<extra></extra>`,
    });
    ends.push({ y: middle.y[length - 1], colour, text: `${named}${falling ? " ↓" : ""}` });
  });
  if (!ends.length) return { data, layout: layout(axis(), axis(), "") };
  const y = logAxis(curveState.y, Math.min(...ys), Math.max(...ys));
  const x = logAxis(curveState.x, Math.min(...xs), Math.max(...xs), 0.03, 3);
  const titles = { samples: "samples seen", train_flops: "training FLOPs", seconds: "training time" };
  const room = Math.min(110, Math.max(...ends.map((end) => end.text.length)) * 6.5 + 10);
  return {
    data,
    layout: layout({ ...x, title: { ...x.title, text: titles[curveState.x] } }, y, label(curveState.y), {
      annotations: ends.length <= 14 ? endLabels(ends, y.range, printing ? PRINTED.height : 300) : [], margin: { r: ends.length <= 14 ? room : 16 },
    }),
  };
}
