"use strict";
// The training page: reads run.js, which lies beside it, again and again while the run lives.

const SPANS = [0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2]; // parts of the steps that smoothing averages
const GRACE = 30; // seconds of silence beyond twice what was announced, before a run counts as dead
const SLOWEST_POLL = 120; // seconds between two looks at a run that does not live
const HEIGHTS = [240, 180]; // of the first chart and of the others, in pixels
const SAVE_PAUSE = 300; // milliseconds from a change to its place in the address
const NUM_OPEN_ROWS = 3; // of other images, shown without a click

const view = createView();
const page = { run: null, charts: [], shape: "", wait: 0, timer: null, saving: null };
const strip = new Strip(view, showStep);

// ---- what is called by run.js

// Shows a run, unless it is older than the one shown.
function showRun(run) {
  if (page.run && run.number <= page.run.number) return;
  page.run = run;
  page.wait = 0;
  view.best = run.best;
  showCharts();
  strip.update(run);
  strip.wanted = undefined;
  find("main").classList.toggle("with-strip", !strip.element.hidden);
  showVerdict();
  showNotes();
  showFacts();
  showDisplay();
  showStatus();
}

// ---- status

// What a run is doing, as far as one can know: its own word, or "dead" if it has been silent for
// much longer than it said.
function stateOf(run, now) {
  const age = Math.max(0, now - run.written);
  return run.state === "running" && age > 2 * run.next + GRACE ? "dead" : run.state;
}

// The words for a state: [what is the matter, since when, what to do].
function describeState(run, now) {
  const age = formatDuration(Math.max(0, now - run.written));
  return {
    running: ["Running", `last update ${age} ago`, ""],
    dead: ["The run has probably died",
      `no update for ${age}, although one was due within ${formatDuration(run.next)}`,
      "--resume continues it"],
    finished: ["Finished", `${age} ago`, ""],
    stopped: ["Stopped by hand", `${age} ago`, "--resume continues it"],
    failed: ["Failed", `${age} ago`, "--resume continues from the last checkpoint"],
  }[stateOf(run, now)];
}

// Where a run is: step, percent, epoch, rate, and while it lives the time left.
function describePlace(run, now) {
  const { step, stop_step: stop, epoch, rate, remaining } = run.progress;
  const texts = [`step ${formatCount(step)}`];
  if (stop !== null) texts[0] += ` of ${formatCount(stop)} (${Math.floor(100 * step / stop)}%)`;
  texts.push(`epoch ${formatCount(epoch)}`);
  if (Number.isFinite(rate)) texts.push(`${Number(rate.toPrecision(3))} images/s`);
  if (Number.isFinite(remaining) && stateOf(run, now) === "running") {
    texts.push(`${formatDuration(Math.max(0, remaining - Math.max(0, now - run.written)))} left`);
  }
  return texts.join(" · ");
}

// Changes a text if it is another: screen readers would read it again.
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Shows how the run is doing now.
function showStatus() {
  const { run } = page;
  if (!run) return;
  const now = Date.now() / 1000;
  const { step, stop_step: stop } = run.progress;
  const [words, news, hint] = describeState(run, now);
  const state = stateOf(run, now);
  find("status").hidden = false;
  find("status").dataset.state = state;
  setText(find("state"), words);
  setText(find("news"), news);
  find("news").title = new Date(1000 * run.written).toLocaleString();
  setText(find("hint"), hint);
  setText(find("place"), describePlace(run, now));
  find("progress").hidden = stop === null;
  setAttributes(find("progress"), { max: stop ?? 1, value: stop === null ? 0 : step });
  const done = stop === null ? `step ${formatCount(step)}` : `${Math.floor(100 * step / stop)}%`;
  document.title = `${state === "running" ? done : state} · ${run.title}`;
}

// Shows whether the run is getting better.
function showVerdict() {
  const { tone, text, step } = judge(page.run);
  find("verdict").parentNode.dataset.tone = tone;
  setText(find("tone"), TONES[tone]);
  setText(find("verdict"), text);
  page.bestStep = step;
  const kept = page.run.best?.checkpoint;
  find("kept").hidden = !kept;
  setText(find("kept"), kept ? `Kept as ${kept}: test and export take it with --which best.` : "");
  find("show-best").hidden = step === undefined || strip.element.hidden;
  if (find("show-best").hidden) return;
  const { steps } = page.run.samples;
  setText(find("show-best"), `Show step ${formatCount(steps[nearestIndex(steps, step)])}`);
}

// ---- charts

// Takes new figures into the charts, which are made if there are others than before.
function showCharts() {
  const shape = JSON.stringify(page.run.charts);
  if (shape !== page.shape) {
    page.shape = shape;
    page.charts.forEach((chart) => chart.element.remove());
    const lines = page.run.charts.flatMap((spec) => spec.lines);
    view.names = [...new Set(lines.map(({ name }) => name))];
    page.charts = page.run.charts.map((spec, index) => new Chart(
      spec, HEIGHTS[index ? 1 : 0], view, { hover, choose }));
    const [first, ...others] = page.charts.map((chart) => chart.element);
    find("first").append(first ?? "");
    find("others").append(...others);
  }
  page.charts.forEach((chart) => chart.update(page.run));
  drawCharts();
}

// Draws all charts, with the same margins, so that steps are in the same place.
function drawCharts() {
  const margins = page.charts.map((chart) => chart.prepare());
  for (const side of ["left", "right"]) {
    view.margins[side] = Math.max(...margins.map((margin) => margin[side]));
  }
  page.charts.forEach((chart) => chart.draw());
  showSpan();
}

// Moves the cursor of all charts.
function hover(step) {
  if (step === view.hover) return;
  view.hover = step;
  page.charts.forEach((chart) => chart.showStep());
}

// Shows the images of a step.
function choose(step) {
  strip.choose(step);
}

// Draws the charts in another view.
function changeView(changes) {
  Object.assign(view, changes);
  drawCharts();
  saveState();
}

// Says over how many steps the lines are averaged.
function showSpan() {
  const steps = page.run ? page.run.columns.step.filter((step) => step >= view.from) : [];
  const range = steps.length ? steps[steps.length - 1] - steps[0] : 0;
  const text = view.span === 0 ? "off" : view.span * steps.length < 1 ? "too few rows yet"
    : `over ${formatCount(Math.round(view.span * range))} steps`;
  setText(find("span-text"), text);
  find("span").setAttribute("aria-valuetext", text);
}

// Marks the step of the film strip in the charts.
function showStep() {
  page.charts.forEach((chart) => chart.showStep());
  saveState();
}

// ---- notes, facts, options, other images

// Fills a part of the page, unless it shows the same already: what is open and has the focus stays.
function fill(id, data, create) {
  const shape = JSON.stringify(data);
  if (find(id).dataset.shape === shape) return;
  const open = find(id).querySelector("details")?.open || false;
  find(id).dataset.shape = shape;
  find(id).replaceChildren(...create());
  if (open) find(id).querySelector("details")?.setAttribute("open", "");
}

function showNotes() {
  fill("notes", page.run.notes, () =>
    page.run.notes.map((note) => element("p", { class: "note" }, note)));
}

// Facts, and options behind a fold: first those that are not at their defaults.
function showFacts() {
  const { facts, options } = page.run;
  const changed = options.filter(([, , isDefault]) => !isDefault);
  const rows = [...changed, ...options.filter(([, , isDefault]) => isDefault)];
  find("facts").hidden = facts.length + options.length === 0;
  fill("facts", [facts, options], () => [
    element("dl", { class: "facts" }, ...facts.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value)))),
    element("details", { class: "options" },
      element("summary", {}, `Options: ${changed.length} of ${options.length} are not at their ` +
        "defaults"),
      element("dl", {}, ...rows.map(([flag, value, isDefault]) =>
        element("div", { class: isDefault ? null : "changed" },
          element("dt", {}, flag), element("dd", {}, value)))))]);
}

// The images of --display_freq, the newest first; all but a few behind a fold.
function showDisplay() {
  const { display } = page.run;
  find("display").hidden = display.length === 0;
  fill("display", display, () => {
    const rows = display.map(createRow);
    const more = rows.splice(NUM_OPEN_ROWS);
    return [element("h2", {}, "Other images while training"),
      element("div", { class: "rows" }, ...rows),
      ...(more.length ? [element("details", {},
        element("summary", {}, `${plural(more.length, "older row")}`),
        element("div", { class: "rows" }, ...more))] : [])];
  });
}

// A row of these. link: the name as a part of an address.
function createRow([name, link]) {
  return element("figure", { class: "sample" }, element("figcaption", { title: name }, name),
    ...KINDS.map((kind) => element("div", {},
      element("img", { src: `images/${link}-${kind}s.png`, alt: "", loading: "lazy" }),
      element("span", { class: "muted small" }, kind))));
}

// ---- state in the address

// Keeps what the user has chosen in the address, soon: browsers refuse to write it very often.
function saveState() {
  clearTimeout(page.saving);
  page.saving = setTimeout(writeState, SAVE_PAUSE);
}

function writeState() {
  writeHash({
    step: strip.following || strip.step() === null ? null : strip.step(),
    film: strip.film ? strip.sample : null,
    smoothing: view.span === createView().span ? null : view.span,
    log: view.log ? 1 : null,
    from: view.from || null,
  });
}

// Takes it from there.
function readState() {
  const state = readHash();
  const number = (name) => state.has(name) ? Number(state.get(name)) : NaN;
  if (SPANS.includes(number("smoothing"))) view.span = number("smoothing");
  view.log = state.get("log") === "1";
  view.from = Math.max(0, number("from") || 0);
  if (Number.isFinite(number("step"))) strip.wanted = number("step");
  if (number("film") >= 0) Object.assign(strip, { film: true, sample: number("film") });
  find("span").value = SPANS.indexOf(view.span);
  find("log").setAttribute("aria-pressed", view.log);
  find("from").value = view.from || "";
}

// ---- refreshing

// Reads run.js again: a script may be read from disk where nothing else may.
function loadRun() {
  clearTimeout(page.timer);
  const script = element("script", { src: `run.js?v=${Date.now()}` });
  const done = () => {
    script.remove();
    if (!page.run) showMissing();
    planLoad();
  };
  setAttributes(script, { onload: done, onerror: done });
  document.head.append(script);
}

// Says that there is nothing to show.
function showMissing() {
  find("status").hidden = false;
  find("status").dataset.state = "dead";
  setText(find("state"), "There is nothing to show yet");
  setText(find("news"), "run.js, which the training writes beside this page, is missing");
  find("progress").hidden = find("show-best").hidden = true;
}

// Plans the next look: soon while the run lives, less and less often otherwise (it may be resumed).
function planLoad() {
  clearTimeout(page.timer);
  if (document.hidden) return;
  const lives = page.run && stateOf(page.run, Date.now() / 1000) === "running";
  page.wait = lives ? Math.min(10, Math.max(2, page.run.next / 3))
    : Math.min(SLOWEST_POLL, Math.max(5, 2 * page.wait));
  page.timer = setTimeout(loadRun, 1000 * page.wait);
}

// Looks at once when the page is seen again.
function becomeVisible() {
  if (document.hidden) return clearTimeout(page.timer);
  page.wait = 0;
  showStatus();
  return loadRun();
}

// ---- start

// Goes to another step of the images, in the large view also to another image, wherever the arrow
// keys mean nothing else; ? lists the keys.
function pressKey(event) {
  const busy = event.target.closest("input, select, .plot, .figures, #keys");
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const along = strip.viewer.element.open && { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (event.key === "?" && !find("keys").open) find("keys").showModal();
  else if (across && !busy) strip.move(across);
  else if (along && !busy) strip.viewer.move(along);
  else return;
  event.preventDefault();
}

function start() {
  find("first").after(strip.element);
  strip.element.hidden = true;
  readState();
  find("span").addEventListener("input", () => changeView({ span: SPANS[find("span").value] }));
  find("from").addEventListener("change", () =>
    changeView({ from: Math.max(0, Number(find("from").value) || 0) }));
  find("log").addEventListener("click", () => {
    find("log").setAttribute("aria-pressed", !view.log);
    changeView({ log: !view.log });
  });
  find("help").addEventListener("click", () => find("keys").showModal());
  find("show-best").addEventListener("click", () => choose(page.bestStep));
  document.addEventListener("keydown", pressKey);
  document.addEventListener("visibilitychange", becomeVisible);
  setInterval(() => document.hidden || showStatus(), 1000);
  loadRun();
}

start();
