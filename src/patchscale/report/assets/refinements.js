// What each refinement changed, such as a halved patch: paired differences over random seeds, inversions named; budget crossings.

const VERDICTS = { lower: "lower", inversion: "▲ inversion", undecided: "undecided" };

function refinementSection() {
  if (!D.differences.length && !D.crossings.length) return null;
  const { element, body } = section("refinements", "What each refinement changed");
  groupBy(D.differences, ["by", "y"]).forEach(({ group: { by, y }, rows: entries }, i) => {
    const finer = by === "patch_size";
    const ends = entries.flatMap((d) => [d.difference, d.low, d.high]).filter((v) => typeof v === "number");
    const reach = Math.max(...ends.map(Math.abs), 1e-9) * 1.05;
    body.append(el("p", { class: "note", style: i ? "margin-top:2rem" : null }, `Difference in ${label(y)}, ${finer ? "finer minus coarser patch" : `more minus fewer ${label(by)}`}, paired by random seed. Left of the line ${finer ? "the finer patch is" : "more are"} better.`));
    body.append(el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Paired differences in ${label(y)} by ${label(by)}` },
      el("table", { class: "full" },
        el("thead", {}, el("tr", {},
          ...[["", ""], [label(by), ""], ["difference", "number"], ["verdict", ""], ["interval", "number"]].map(([text, kind]) => (text ? el("th", { scope: "col", class: kind }, text) : el("td"))),
          el("th", { scope: "col" }, `${finer ? "finer" : "more"} is better ← → worse`))),
        el("tbody", {}, entries.map((d, place) => differenceRow(d, entries[place - 1], reach))))));
  });
  groupBy(D.crossings, ["by"]).forEach(({ group: { by }, rows: entries }) => {
    body.append(el("h3", { style: "margin-top:2rem" }, by === "patch_size" ? "Where two patch sizes cross in training budget" : `Where two settings of ${label(by)} cross in training budget`),
      el("ul", { class: "sentences" }, entries.map((crossing) => el("li", {}, `${groupLabel(crossing.group)}: ${sentence(crossing)}`))));
  });
  return element;
}

function differenceRow(d, before, reach) {
  const group = groupLabel(d.group);
  const first = !before || groupLabel(before.group) !== group;
  const known = typeof d.low === "number";
  return el("tr", { title: sentence(d) },
    el("th", { scope: "row" }, first ? group : el("span", { class: "unseen" }, group)),
    el("td", {}, `${d.from} → ${d.to}`),
    el("td", { class: "number" }, signed(d.difference)),
    el("td", { class: d.verdict === "inversion" ? "flag" : "" }, VERDICTS[d.verdict] || d.verdict),
    el("td", { class: "number" }, known ? `${signed(d.low)} to ${signed(d.high)}` : d.pairs ? `${d.pairs} pair, none` : "no seed in common"),
    el("td", {}, interval(d, reach)));
}

const signed = (value) => (typeof value === "number" ? `${value > 0 ? "+" : value < 0 ? "−" : ""}${number(Math.abs(value), 3)}` : "–");

/** The interval as a line around its mean, on a scale that all rows share. */
function interval(d, reach) {
  const at = (value) => 100 + (value / reach) * 98;
  const parts = [["line", { x1: 100, x2: 100, y1: 0, y2: 20, stroke: "var(--soft)", "stroke-width": 1, "stroke-dasharray": "2 2", "vector-effect": "non-scaling-stroke" }]];
  if (typeof d.low === "number") {
    parts.push(["line", { x1: at(d.low), x2: at(d.high), y1: 10, y2: 10, stroke: "var(--measured)", "stroke-width": 2, "vector-effect": "non-scaling-stroke" }]);
  }
  if (typeof d.difference === "number") parts.push(["line", { x1: at(d.difference), x2: at(d.difference), y1: 5, y2: 15, stroke: "var(--measured)", "stroke-width": 4, "vector-effect": "non-scaling-stroke" }]);
  return svg({ class: "interval", viewBox: "0 0 200 20", preserveAspectRatio: "none", "aria-hidden": "true" }, parts);
}
