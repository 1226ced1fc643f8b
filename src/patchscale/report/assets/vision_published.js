// The published curves over vision tokens with the published fits, and how every law fares there and here.

const publishedState = { variant: "vqq", metric: null };
const VARIANTS = { vqq: "question inside the fusion (vqq)", vq_ft: "question outside, finetuned (vq ft)" };

function publishedSection() {
  if (!D.vision) return null;
  const metrics = distinct(D.vision.published.map((curve) => curve.metric));
  if (!metrics.includes(publishedState.metric)) publishedState.metric = metrics.find((name) => name.includes("TextVQA")) || metrics[0];
  const again = (change, id) => {
    Object.assign(publishedState, change);
    document.getElementById("published").replaceWith(publishedSection());
    document.querySelector(`#published ${id}`).focus();
  };
  const select = el("select", { id: "published-metric", onchange: (event) => again({ metric: event.target.value }, "#published-metric") },
    metrics.map((name) => el("option", { value: name, selected: name === publishedState.metric }, name)));
  const { element, body } = section("published", "Published curves beside ours",
    "18 metrics and two variants of “Scaling Capability in Token Space” (2412.18387), ten numbers of vision tokens each, one run a point. The authors fitted a power law to each; the other laws are fitted here to the same points, with n from 256 on held out. What was measured here stands beside them in its own colour.",
    [choice("Variant", Object.entries(VARIANTS).map(([value, text]) => [value, text]), publishedState.variant, (variant) => again({ variant }, `[data-value="${variant}"]`)),
      el("label", { for: "published-metric" }, "metric", select)]);
  body.append(key([["diamond", "var(--published)", "published points, published power law"], ["dot", "var(--measured)", "measured here"], ["line", "var(--predicted)", "laws fitted here to the published points"]]));
  const curve = D.vision.published.find((one) => one.variant === publishedState.variant && one.metric === publishedState.metric);
  body.append(el("div", { class: "panels" }, publishedFigure(curve)), el("h3", { class: "apart" }, "How the laws fare"), faringTable(), fitsTable());
  return element;
}

function publishedFigure(curve) {
  const { c, alpha } = curve.published;
  const best = curve.laws[0];
  return el("figure", {}, el("h3", {}, curve.metric),
    plot(`${curve.metric}, published: ${curve.points.map(([n, score]) => `${number(score)} at n = ${n}`).join(", ")}.`, () => publishedPlot(curve)),
    el("figcaption", {}, el("p", { class: "published" }, `published fit: S = ${number(c)} · n`, el("sup", {}, number(-alpha, 3))),
      el("p", { class: "formula" }, `lowest AICc here: ${best.form.replaceAll("_", " ")}; error on held-out n ${percent(best.held_out_error)}, power law ${percent(curve.laws.find((law) => law.form === "power").held_out_error)}`)));
}

function publishedPlot(curve) {
  const c = palette();
  const [xs, ys] = [0, 1].map((i) => curve.points.map((point) => point[i]));
  const ends = [xs[0], xs[xs.length - 1]];
  const data = lawLines(curve.laws, c).map((line) => ({ ...line, hovertemplate: `${line.name}: %{y:.4g} at n = %{x:.3g}<extra></extra>` }));
  data.push({
    x: ends, y: ends.map((n) => curve.published.c * n ** -curve.published.alpha), mode: "lines", name: "published fit",
    line: { color: c.published, width: 1.5 }, hoverinfo: "skip",
  }, {
    x: xs, y: ys, mode: "markers", name: "published", marker: { color: c.published, symbol: "diamond", size: 8 },
    hovertemplate: "published: %{y:.4g} at n = %{x}<extra></extra>",
  });
  const drawn = data.flatMap((line) => line.y);
  return { data, layout: layout(countAxis(xs), logAxis("score", Math.min(...drawn), Math.max(...drawn)), "score") };
}

/** Rows: laws; columns: wins, AICc over the best and held-out error of each set of curves. */
function faringTable() {
  const sets = [["published", "published vqq", D.vision.published.filter((curve) => curve.variant === "vqq")],
    ["published", "published vq ft", D.vision.published.filter((curve) => curve.variant === "vq_ft")],
    ["measured", "measured here", D.vision.curves.filter((curve) => curve.laws.length)]].filter(([, , curves]) => curves.length);
  const forms = distinct(sets.flatMap(([, , curves]) => curves.flatMap((curve) => curve.laws.map((law) => law.form))));
  const cells = (curves, form) => {
    const laws = curves.map((curve) => curve.laws.find((law) => law.form === form)).filter(Boolean);
    const errors = laws.map((law) => law.held_out_error).filter((error) => error !== null);
    return [`${curves.filter((curve) => curve.laws[0].form === form).length} of ${curves.length}`, errors.length ? percent(mean(errors), 0) : "–"];
  };
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "How the laws fare" }, el("table", { class: "full", id: "faring" },
    el("thead", {}, el("tr", {}, el("td"), sets.map(([kind, name, curves]) => el("th", { scope: "colgroup", colspan: 2, class: `${kind} number` }, `${name}, ${curves.length} curves`))),
      el("tr", {}, el("th", { scope: "col" }, "law"), sets.map(([kind]) => ["lowest AICc", "held-out error"].map((text) => el("th", { scope: "col", class: `${kind} number` }, text))))),
    el("tbody", {}, forms.map((form) => el("tr", {}, el("th", { scope: "row" }, form.replaceAll("_", " ")),
      sets.map(([kind, , curves]) => cells(curves, form).map((text) => el("td", { class: `${kind} number` }, text))))))));
}

/** Our power laws first, then the 36 published ones, each beside the form with the lowest AICc. */
function fitsTable() {
  const line = (kind, names, fit, ends, laws) => el("tr", { class: kind }, el("th", { scope: "row" }, names[0]), el("td", { class: "wrap" }, names[1]),
    el("td", { class: "number" }, number(fit.c)), el("td", { class: "number" }, number(fit.alpha, 3)),
    el("td", { class: "number" }, `${number(ends[0])} → ${number(ends[1])}`), el("td", {}, laws.length ? laws[0].form.replaceAll("_", " ") : "–"));
  const ours = D.vision.curves.filter((curve) => curve.laws.length).map((curve) => {
    const power = curve.laws.find((law) => law.form === "power").values;
    return line("measured", [scoreLabel(curve.y), visionLabel(curve.group)], { c: power.scale, alpha: power.exponent }, [curve.means[0].mean, curve.means[curve.means.length - 1].mean], curve.laws);
  });
  const theirs = D.vision.published.map((curve) => line("published", [curve.metric, curve.variant.replace("_", " ")], curve.published, [curve.points[0][1], curve.points[curve.points.length - 1][1]], curve.laws));
  const head = ["score", "of", "c", "α", "first → last", "lowest AICc"];
  return el("details", { class: "apart" }, el("summary", {}, `Power laws S = c / n^α: ${ours.length} measured here, ${theirs.length} published`),
    el("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Power laws, measured and published" }, el("table", { class: "full", id: "fits" },
      el("thead", {}, el("tr", {}, head.map((text, i) => el("th", { scope: "col", class: i > 1 && i < 5 ? "number padded" : "padded" }, text)))), el("tbody", {}, ours, theirs))));
}
