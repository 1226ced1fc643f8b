// The one way a plotly figure is made: theme, axes, lazy drawing, alternative text.

const figures = new Set();
let printing = false;
const PRINTED = { width: 330, height: 226 }; // half the text width of A4 and 60 mm, in CSS pixels

function dark() {
  const chosen = document.documentElement.dataset.theme;
  if (printing) return false;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
const palette = () => (dark() ? D.theme.dark : D.theme.light);

const clear = (colour, opacity) => {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return `rgba(${r},${g},${b},${opacity})`;
};

/** Shades of `measured` from coarse to fine patches. */
function shadeOf(patch) {
  const all = D.patches;
  if (all.length <= 1 || patch === null || patch === undefined) return palette().measured;
  return shadeAt(all.findIndex((p) => same(p, patch)) / (all.length - 1));
}

/** The shade at a place from 0 (coarse) to 1 (fine), as report/theme.py makes it. */
function shadeAt(place) {
  const c = palette();
  const [from, to, part] = place <= 0.5 ? [c.coarse, c.measured, place * 2] : [c.measured, c.fine, place * 2 - 1];
  const mix = (i) => {
    const [a, b] = [from, to].map((colour) => parseInt(colour.slice(i, i + 2), 16));
    return Math.round(a + (b - a) * part).toString(16).padStart(2, "0");
  };
  return `#${mix(1)}${mix(3)}${mix(5)}`;
}

/** Round ticks on a log axis: 1-2-5 over decades, even steps within one. */
function logTicks(low, high, wanted = 4) {
  if (!(low > 0 && high > low)) return low > 0 ? [low] : [];
  const inside = (value) => value >= low * 0.9999 && value <= high * 1.0001;
  if (high / low > 4) {
    let ticks = [];
    for (const steps of [[1, 2, 5], [1, 3], [1]]) {
      ticks = [];
      for (let d = Math.floor(Math.log10(low)); d <= Math.ceil(Math.log10(high)); d += 1) {
        ticks.push(...steps.map((step) => Number(`${step}e${d}`)).filter(inside));
      }
      if (ticks.length <= 2 * wanted) return ticks;
    }
    return ticks.filter((_, i) => i % Math.ceil(ticks.length / (2 * wanted)) === 0);
  }
  const rough = (high - low) / wanted;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => size * factor).find((value) => value >= rough);
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high * 1.0001; i += 1) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

/** A log axis over [low, high] with a little air and tick texts in the column's unit. */
function logAxis(name, low, high, air = 0.06, wanted = 4) {
  const [a, b] = [Math.log10(low), Math.log10(high)];
  const pad = Math.max((b - a) * air, 0.01);
  const unit = tickUnit(name, low);
  const ticks = logTicks(10 ** (a - pad) / unit, 10 ** (b + pad) / unit, wanted).map((tick) => tick * unit);
  return {
    ...axis(), type: "log", range: [a - pad, b + pad], tickvals: ticks,
    ticktext: ticks.map((tick) => format(name, tick).replace(/(\.\d*?)0+ %$/, "$1 %").replace(". %", " %")),
  };
}

/** The unit in which ticks are round numbers: MiB and GiB, minutes and hours. */
function tickUnit(name, low) {
  if (/bytes/.test(name)) return 1024 ** Math.floor(Math.log(low) / Math.log(1024));
  if (name === "seconds") return low < 120 ? 1 : low < 7200 ? 60 : 3600;
  return 1;
}

function axis() {
  const c = palette();
  return {
    gridcolor: c.grid, gridwidth: 1, zeroline: false, linecolor: c.line, ticks: "", tickfont: { size: 11, color: c.soft },
    title: { font: { size: 11, color: c.soft }, standoff: 8 }, fixedrange: coarsePointer(), automargin: false,
  };
}

const coarsePointer = () => matchMedia("(pointer: coarse)").matches;

function layout(x, y, yTitle, more = {}) {
  const c = palette();
  const { annotations = [], margin = {}, ...rest } = more;
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    font: { family: D.theme.font, size: 11, color: c.ink }, dragmode: coarsePointer() ? false : "zoom",
    margin: { l: 52, r: 16, t: 26, b: 46, ...margin },
    hoverlabel: { bgcolor: c.panel, bordercolor: c.line, font: { family: D.theme.font, size: 12, color: c.ink }, align: "left" },
    xaxis: x, yaxis: y,
    annotations: [{
      text: yTitle, xref: "paper", yref: "paper", x: 0, y: 1, xanchor: "left", yanchor: "bottom", xshift: -52, yshift: 6,
      showarrow: false, font: { size: 11, color: c.soft },
    }, ...annotations],
    ...rest,
  };
}

const visible = new IntersectionObserver((entries) => {
  entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
    visible.unobserve(entry.target);
    render(entry.target);
  });
}, { rootMargin: "400px" });

/** A plot whose `draw` returns {data, layout}; drawn when it comes near the screen, redrawn when the theme changes. */
function plot(alt, draw) {
  const element = el("div", { class: "plot", role: "img", "aria-label": alt });
  element.draw = draw;
  figures.add(element);
  visible.observe(element);
  return element;
}

function render(element) {
  const { data, layout: shape } = element.draw();
  element.drawn = true;
  const size = printing ? PRINTED : { width: element.clientWidth, height: element.clientHeight };
  return Plotly.react(element, data, { ...shape, ...size }, { displayModeBar: false, doubleClick: "reset" });
}

/** Draws again what stands in the page: all figures when printing, otherwise those already drawn. */
function redraw(all = false) {
  figures.forEach((element) => {
    if (!element.isConnected) figures.delete(element);
    else if (all || element.drawn) { visible.unobserve(element); render(element); }
  });
}

let resizing = 0;
let lastWidth = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === lastWidth) return;
  lastWidth = innerWidth;
  clearTimeout(resizing);
  resizing = setTimeout(redraw, 120);
});
addEventListener("beforeprint", () => { printing = true; document.querySelectorAll("details").forEach((d) => { d.dataset.was = d.open ? "1" : ""; d.open = true; }); redraw(true); });
addEventListener("afterprint", () => { printing = false; document.querySelectorAll("details").forEach((d) => { d.open = d.dataset.was === "1"; }); redraw(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());

/** Text labels at the right ends of lines, pushed apart, inside the panel; `ends`: [{x, y, text, colour}]. */
function endLabels(ends, range, height) {
  const least = 13 / Math.max(height - 72, 60) * (range[1] - range[0]);
  const sorted = ends.map((end) => ({ ...end, at: Math.log10(end.y) })).sort((a, b) => a.at - b.at);
  for (let pass = 0; pass < 40; pass += 1) {
    for (let i = 1; i < sorted.length; i += 1) {
      const lack = least - (sorted[i].at - sorted[i - 1].at);
      if (lack > 1e-9) { sorted[i].at += lack / 2; sorted[i - 1].at -= lack / 2; }
    }
  }
  sorted.forEach((end, i) => { end.at = Math.min(Math.max(end.at, range[0] + i * least), range[1] - (sorted.length - 1 - i) * least); });
  return sorted.map((end) => ({
    text: end.text, xref: "paper", x: 1, xanchor: "left", xshift: 4, yref: "y", y: end.at, yanchor: "middle", showarrow: false,
    font: { size: 11, color: end.colour },
  }));
}

/** The legend of provenance, and of models where symbols tell them apart. */
function key(items) {
  const c = () => "currentColor";
  const mark = {
    dot: (colour) => [["circle", { cx: 11, cy: 6, r: 4, fill: colour }]],
    line: (colour) => [["rect", { x: 0, y: 1, width: 22, height: 10, fill: colour, opacity: 0.18 }], ["line", { x1: 0, y1: 6, x2: 22, y2: 6, stroke: colour, "stroke-width": 2 }]],
    diamond: (colour) => [["path", { d: "M11 1 L16 6 L11 11 L6 6Z", fill: colour }]],
    step: () => [["path", { d: "M1 1 V6 H11 V11 H21", fill: "none", stroke: c(), "stroke-width": 1.2, "stroke-dasharray": "3 2" }]],
    square: (colour) => [["rect", { x: 7, y: 2, width: 8, height: 8, fill: colour }]],
    "triangle-up": (colour) => [["path", { d: "M11 1 L16 10 H6Z", fill: colour }]],
    x: (colour) => [["path", { d: "M7 2 L15 10 M15 2 L7 10", stroke: colour, "stroke-width": 3 }]],
    other: (colour) => [["path", { d: "M11 1 L16 4 L16 8 L11 11 L6 8 L6 4Z", fill: colour }]],
  };
  mark.circle = mark.dot;
  return el("ul", { class: "key" }, items.map(([shape, colour, text]) => el("li", {},
    svg({ width: 22, height: 12, viewBox: "0 0 22 12", "aria-hidden": "true" }, (mark[shape] || mark.other)(colour)), text)));
}
