// Puts the page together; the address's #trial-ID opens a configuration.

const SECTIONS = [["law", "Law"], ["beside", "Tables"], ["refinements", "Refinements"], ["repeats", "Repetition"], ["bases", "Kept tokens"], ["curves", "Curves"], ["cost", "Cost"], ["planner", "Plan"], ["tokens", "Tokens"], ["dense", "Predictions"], ["precision", "Precision"], ["vision", "Vision tokens"], ["published", "Published"], ["answers", "Answers"], ["trials", "Trials"], ["about", "Provenance"]];

function start() {
  const main = document.getElementById("main");
  const parts = [overview(), rows.length ? lawSection() : null, besideSection(), refinementSection(), repeatSection(), basesSection(), curveSection(), costSection(), plannerSection(), tokenSection(), denseSection(), precisionSection(), visionSection(), publishedSection(), answerSection(), tableSection(), aboutSection()];
  main.replaceChildren(...parts.filter(Boolean));
  const present = SECTIONS.filter(([id]) => document.getElementById(id));
  document.getElementById("sections").replaceChildren(...present.map(([id, text]) => el("a", { href: `#${id}` }, text)));
  document.getElementById("foot").replaceChildren(`Made by patchscale from ${D.live ? "a run directory, read-only." : "a run directory. This file loads nothing from anywhere."} Figures drawn with plotly.js (MIT licence).`);
}

/** Redraws the figures of one section after a setting changed that leaves its layout as it is. */
function refreshPlots(id) {
  document.querySelectorAll(`#${id} .plot`).forEach((element) => { if (element.drawn) render(element); });
}

const THEMES = ["system", "light", "dark"];
function setTheme(theme, remember = true) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const button = document.getElementById("theme");
  button.textContent = { system: "◐ system", light: "○ light", dark: "● dark" }[theme];
  button.setAttribute("aria-label", `Colours: ${theme}. Change`);
  button.dataset.theme = theme;
  if (remember) try { localStorage.setItem("patchscale-theme", theme); } catch { /* a file:// page may have no storage */ }
  redraw();
}
function storedTheme() {
  try { return localStorage.getItem("patchscale-theme") || "system"; } catch { return "system"; }
}
document.getElementById("theme").addEventListener("click", (event) => setTheme(THEMES[(THEMES.indexOf(event.currentTarget.dataset.theme) + 1) % 3]));

function followHash() {
  const found = location.hash.match(/^#trial-(.+)$/);
  if (found) showTrial(decodeURIComponent(found[1]));
}
document.getElementById("trial").addEventListener("close", () => {
  if (location.hash.startsWith("#trial-")) history.replaceState(null, "", location.pathname + location.search);
});
addEventListener("hashchange", followHash);

if (D.live) document.getElementById("theme").before(el("span", { id: "live", role: "status" }, "● live"));
start();
if (D.live) setTimeout(poll, POLL);
setTheme(storedTheme(), false);
followHash();
