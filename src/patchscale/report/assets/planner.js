// The planner panel: sliders over a grid of plans that Python worked out; exact at its nodes.

function plannerSection() {
  const grid = D.planner;
  if (!grid) return null;
  if (grid.reason) return section("planner", "What to train next", `No plan from this table: ${grid.reason}.`).element;
  const { element, body } = section("planner", "What to train next",
    `Answers of patchscale plan from this study's own laws, for its samples seen: predictions, not measurements. Between two budgets it names the plan of the smaller one and interpolates what to expect.`);
  const state = { device: Math.max(0, grid.devices.findIndex((one) => one.name === grid.first)), count: 0, hours: grid.hours.length - 1, target: 0 };
  const result = el("div", { class: "plan", id: "plan", role: "status", "aria-live": "polite" });
  const outputs = {};
  const update = () => {
    outputs.count.textContent = String(grid.counts[state.count]);
    outputs.hours.textContent = duration(3600 * hoursAt(grid, state.hours));
    outputs.target.textContent = targetText(grid, state.target);
    sliders.count.disabled = grid.nodes[state.device].filter(Boolean).length < 2;
    result.replaceChildren(...planParts(grid, state));
  };
  const slider = (name, text, most, step) => {
    outputs[name] = el("output", { for: `plan-${name}` });
    const input = el("input", {
      type: "range", id: `plan-${name}`, min: 0, max: most, step, value: state[name],
      oninput: (event) => {
        state[name] = Number(event.target.value);
        event.target.setAttribute("aria-valuetext", outputs[name].textContent);
        update();
      },
    });
    return [input, el("div", { class: "slide" }, el("label", { for: `plan-${name}` }, text), input, outputs[name])];
  };
  const device = el("select", {
    id: "plan-device",
    onchange: (event) => {
      state.device = Number(event.target.value);
      if (!grid.nodes[state.device][state.count]) { state.count = 0; sliders.count.value = 0; }
      update();
    },
  }, grid.devices.map((one, index) => el("option", { value: index, selected: index === state.device }, one.title)));
  const sliders = {};
  const rowsOf = [["count", "devices", grid.counts.length - 1, 1], ["hours", "time", grid.hours.length - 1, 0.1], ["target", "target", grid.targets.length - 1, 1]]
    .map(([name, text, most, step]) => { const [input, row] = slider(name, text, most, step); sliders[name] = input; return row; });
  body.append(el("div", { class: "planner" },
    el("div", { class: "sliders" }, el("div", { class: "slide" }, el("label", { for: "plan-device" }, "device"), device), rowsOf), result));
  update();
  return element;
}

const hoursAt = (grid, place) => {
  const low = Math.floor(place);
  const high = Math.min(low + 1, grid.hours.length - 1);
  return grid.hours[low] * (grid.hours[high] / grid.hours[low]) ** (place - low);
};

function targetText(grid, index) {
  const target = grid.targets[index];
  if (target === null) return "as good as possible";
  return grid.quantity === "test_loss" ? `${label("test_loss")} ${number(target)}` : `top-1 ${number(100 * target)} %`;
}

/** A node of the grid as an object; `place` may lie between two budgets. */
function planAt(grid, state) {
  const column = grid.nodes[state.device][state.count];
  const read = (index) => Object.fromEntries(grid.fields.map((name, i) => [name, column[index][state.target][i]]));
  const low = Math.floor(state.hours);
  const plan = read(low);
  const part = state.hours - low;
  if (part === 0) return plan;
  const next = read(low + 1);
  const between = (name) => plan[name] * (next[name] / plan[name]) ** part;
  return { ...plan, predicted: between("predicted"), low: between("low"), high: between("high") };
}

function planParts(grid, state) {
  const plan = planAt(grid, state);
  const quantity = grid.quantity.replaceAll("_", " ").replace("top1", "top-1");
  const size = plan.input_size[0] === plan.input_size[1] ? `${plan.input_size[0]} px` : `${plan.input_size[0]} × ${plan.input_size[1]} px`;
  const warnings = [
    ...plan.notes.map((index) => grid.texts[index]),
    ...(plan.outside.length ? [`Extrapolated: ${plan.outside.map((index) => grid.texts[index]).join("; ")}.`] : []),
  ];
  const facts = [
    [`expected ${quantity}`, `${number(plan.predicted, 3)} (${number(plan.low, 3)} to ${number(plan.high, 3)})`],
    ["tokens", number(plan.tokens)],
    ["training time", `${duration(3600 * plan.hours)} (${duration(3600 * plan.hours_low)} to ${duration(3600 * plan.hours_high)})`],
    ["memory", `${format("peak_memory_bytes", plan.memory_bytes)} a device`],
    ["batch", number(plan.batch_size)],
    ["schedule", plan.share >= 1 ? "the study's" : `${number(100 * plan.share, 2)} % of the study's`],
    ...(plan.target_probability === null ? [] : [["chance of the target", `${number(100 * plan.target_probability, 2)} %`]]),
  ];
  return [
    el("p", { class: "lead", id: "plan-choice", "data-model": plan.model, "data-patch": plan.patch_size, "data-predicted": plan.predicted },
      plan.fits ? "Train " : "Nothing fits; the nearest is ", el("strong", {}, modelLabel(plan.model)), " with ", el("strong", {}, `patch ${plan.patch_size}`), ` at ${size}.`),
    el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    warnings.length ? el("ul", { class: "sentences", id: "plan-warnings" }, warnings.map((text) => el("li", {}, text))) : null,
  ].filter(Boolean);
}
