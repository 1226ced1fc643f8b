// Examples: test images with questions, true answers and what was said at every n; maps of the contrastive stage.

function answerSection() {
  const shown = D.vision && D.vision.examples;
  if (!shown) return null;
  const { element, body } = section("answers", "Questions and answers",
    `Some test images, equal for every trial, as models of random seed ${shown.seed} answered; ✓ marks an answer that is exactly right.`);
  shown.images.forEach((image, i) => body.append(exampleOf(image, i, shown.counts)));
  return element;
}

function exampleOf(image, place, counts) {
  const picture = (source, caption, alt) => el("figure", {}, el("img", { src: source, alt, loading: "lazy", class: image.small ? "squares" : null }), el("figcaption", {}, caption));
  const about = `Test image ${place + 1}`;
  const maps = image.maps.map((map) => picture(map.map, `where “${image.truth}” is: ${visionLabel(map.group, image.maps.map((other) => other.group))}`, `${about}: patch-text cosines of “${image.truth}”, ${visionLabel(map.group, image.maps.map((other) => other.group))}.`));
  return el("div", { class: "example" },
    el("div", { class: "seen" }, picture(image.image, image.asked.length ? "" : `${image.question}? ${image.truth}`, `${about}.`), maps),
    image.asked.length ? answerTable(image.asked, counts, about) : null);
}

/** Rows: question and group of trials; columns: the truth and every n. */
function answerTable(asked, counts, about) {
  const head = ["question", "truth", "", ...counts.map((count) => `n = ${count}`)];
  const lines = asked.flatMap(({ question, truth, rows: groups }) => groups.map(({ group, said, right }, i) => el("tr", {},
    i ? null : el("th", { scope: "rowgroup", rowspan: groups.length }, question), i ? null : el("td", { rowspan: groups.length, class: "wrap" }, truth),
    el("th", { scope: "row", class: "group" }, groups.length > 1 ? visionLabel(group, groups.map((other) => other.group)) : ""),
    counts.map((count) => el("td", { class: right[count] ? "wrap right" : "wrap" }, count in said ? `${right[count] ? "✓ " : ""}${said[count] || "(nothing)"}` : "–")))));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${about}: questions and answers` },
    el("table", { class: "full" }, el("thead", {}, el("tr", {}, head.map((text) => (text ? el("th", { scope: "col" }, text) : el("td"))))), el("tbody", {}, lines)));
}
