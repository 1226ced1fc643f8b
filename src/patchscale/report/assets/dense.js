// Dense predictions: test images with truth and prediction of every configuration, and scores class by class.

function denseSection() {
  if (!D.dense) return null;
  const { configurations, images, scores, classes, seed } = D.dense;
  const names = configurations.map((axes) => groupLabel(axes));
  const { element, body } = section("dense", "What the model says", `Some test images, equal for every trial; predictions of random seed ${seed}.`);
  const figure = (source, caption, alt) => el("figure", {}, el("img", { src: source, alt, loading: "lazy" }), el("figcaption", {}, caption));
  images.forEach(({ image, truth, predictions }, i) => body.append(el("div", { class: "tokens dense" },
    figure(image, "image", `Test image ${i + 1}.`),
    figure(truth, "truth", `Test image ${i + 1}: truth.`),
    predictions.map((source, k) => figure(source, names[k], `Test image ${i + 1}: prediction of ${names[k]}.`)))));
  body.append(classTable(names, scores, classes));
  return element;
}

/** Rows: classes; columns: every score of every configuration. */
function classTable(names, scores, classes) {
  const titles = names.flatMap((name) => scores.map((score) => `${score}, ${name}`));
  const head = el("tr", {}, el("th", { scope: "col" }, "class"), titles.map((title) => el("th", { scope: "col", class: "number" }, title)));
  const lines = classes.map((row) => el("tr", {}, el("th", { scope: "row" }, row.colour ? el("span", { class: "swatch", style: `background: rgb(${row.colour})` }) : null, row.class), row.values.flat().map((value) => el("td", { class: "number", title: value }, value === null ? "–" : `${(100 * value).toFixed(1)} %`))));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Scores of every class" }, el("table", { class: "full" }, el("thead", {}, head), el("tbody", {}, lines)));
}
