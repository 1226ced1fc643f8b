// The live view asks its own server for newer data and puts the page together again when there are some.

const POLL = 2000;

/** How to find the focused control again after the page was rebuilt. */
function focusPath() {
  const active = document.activeElement;
  const home = active && active.closest("section[id]");
  if (!home) return null;
  const mark = active.id ? `#${active.id}` : ["value", "column"].filter((name) => active.dataset[name]).map((name) => `#${home.id} [data-${name}="${active.dataset[name]}"]`)[0];
  return mark ? { mark, start: active.selectionStart } : null;
}

async function poll() {
  const status = document.getElementById("live");
  try {
    const answer = await fetch("/data.json", { headers: { "If-None-Match": `"${D.version}"` }, cache: "no-store" });
    if (answer.status === 200) {
      const newer = await answer.json();
      if (!document.getElementById("trial").open && document.activeElement?.tagName !== "SELECT") {
        const [focus, place] = [focusPath(), scrollY];
        D = newer;
        readRows();
        start();
        scrollTo({ top: place, behavior: "instant" });
        const again = focus && document.querySelector(focus.mark);
        if (again) { again.focus({ preventScroll: true }); if (focus.start !== undefined && again.setSelectionRange) again.setSelectionRange(focus.start, focus.start); }
      }
    } else if (answer.status !== 304) {
      throw new Error(`the server answered ${answer.status}`);
    }
    status.textContent = D.unfinished.some((entry) => entry.state === "running") ? "● live" : D.unfinished.length ? "○ nothing runs" : "✓ all trials finished";
  } catch {
    status.textContent = "○ connection lost";
  }
  setTimeout(poll, POLL);
}
