// The page of a test: what is sorted by, filtered and open, kept in the address.

const DATA = JSON.parse(find("data").textContent);
const { kinds: KINDS, metrics: METRICS, endings: ENDINGS } = DATA; // of files, the shown one first
const DIRECTIONS = {
  name: [["up", "A to Z"], ["down", "Z to A"]],
  metric: [["worst", "worst first"], ["best", "best first"]],
};
const SIZES = { small: 96, medium: 160, large: 256, huge: 448 }; // of the table's images, in pixels
const WIDE = { huge: 2000, large: 1400, medium: 0 }; // windows that these suit, in pixels
const PRINTED = 20; // rows on paper
const WRITE_PAUSE = 200; // milliseconds between states in the address

// Rows as {index, name, folded, link, values}.
const ROWS = DATA.rows.map(([name, link, ...values], index) => ({
  index, name, link, folded: foldName(name),
  values: Object.fromEntries(METRICS.map((metric, at) => [metric.name, Number(values[at])])),
}));
const BY_NAME = orderByName(ROWS);
const BINS = Object.fromEntries(METRICS.map((metric) => [
  metric.name, binValues(ROWS.map((row) => row.values[metric.name]), metric.digits)]));
const ORDERS = {}; // metric -> its order, once it is needed

const DEFAULTS = {
  sort: METRICS.length ? METRICS[0].name : "name", order: null, find: "", bin: null, image: null,
  size: null, view: "side", pair: pairsOf(KINDS)[0][0], zoom: "fit", factor: "1",
};
const state = { ...DEFAULTS };
let table = null;
let viewer = null;
let shown = []; // the rows that the table shows, in its order
let chartsWidth = 0; // of the place of the histograms, when they were drawn
let writing = null; // the timer of the state that is to be written
let written = -Infinity; // when it was, in milliseconds

// ---- order, filter, rank

// What names have in common that people do not tell apart: case, and how accents are encoded.
function foldName(name) {
  return name.normalize("NFC").toLowerCase();
}

// The metric of a name.
function metricOf(name) {
  return METRICS.find((metric) => metric.name === name);
}

// The directions in which rows can be sorted now.
function directionsOf(sort) {
  return DIRECTIONS[sort === "name" ? "name" : "metric"];
}

// The order of a metric, with each row's rank among the known ones.
function orderOf(metric) {
  if (!ORDERS[metric.name]) {
    const order = orderByMetric(BY_NAME, metric);
    order.ranks = new Map(order.known.map((row, rank) => [row, rank + 1]));
    ORDERS[metric.name] = order;
  }
  return ORDERS[metric.name];
}

// All rows in the present order.
function sortRows() {
  const isReversed = state.order === directionsOf(state.sort)[1][0];
  if (state.sort === "name") return isReversed ? [...BY_NAME].reverse() : BY_NAME;
  const { known, unknown } = orderOf(metricOf(state.sort));
  return [...(isReversed ? [...known].reverse() : known), ...unknown];
}

// Those of the rows that have the name that is looked for and lie in the chosen bin.
function filterRows(rows) {
  const wanted = foldName(state.find.trim());
  const [name, bin] = state.bin ? state.bin.split(":") : [];
  return rows.filter((row) => row.folded.includes(wanted)
    && (!name || binOf(BINS[name], row.values[name]) === Number(bin)));
}

// "3rd" of 3.
function ordinal(number) {
  const ending = { one: "st", two: "nd", few: "rd", other: "th" };
  return number + ending[new Intl.PluralRules("en", { type: "ordinal" }).select(number)];
}

// A row's rank by a metric: "3rd worst of 106".
function describeRank(row, metric) {
  const { known, ranks } = orderOf(metric);
  if (!ranks.has(row)) return "no rank";
  const [rank, count] = [ranks.get(row), known.length];
  const [place, word] = rank * 2 <= count + 1 ? [rank, "worst"] : [count + 1 - rank, "best"];
  return `${place === 1 ? word : `${ordinal(place)} ${word}`} of ${formatCount(count)}`;
}

// ---- state in the address

// Only what the page knows may come from an address: other values become the defaults.
function checkState(read) {
  const limit = (name, values, other) => {
    if (!values.includes(read[name])) read[name] = other;
  };
  const first = (pairs) => pairs.map(([value]) => value);
  limit("sort", ["name", ...METRICS.map(({ name }) => name)], DEFAULTS.sort);
  limit("order", first(directionsOf(read.sort)), directionsOf(read.sort)[0][0]);
  limit("size", Object.keys(SIZES), null);
  limit("image", ROWS.map(({ link }) => link), null);
  for (const [name, pairs] of [["view", VIEWS], ["pair", pairsOf(KINDS)], ["zoom", ZOOMS],
    ["factor", FACTORS]]) limit(name, first(pairs), DEFAULTS[name]);
  const [name, bin] = read.bin ? read.bin.split(":") : [];
  const bins = metricOf(name) && BINS[name];
  if (!bins || !bins.counts[Number(bin) - bins.first]) read.bin = null;
  return read;
}

// Reads the state from the address.
function readState() {
  const hash = readHash();
  return checkState(Object.fromEntries(Object.entries(DEFAULTS).map(
    ([name, value]) => [name, hash.has(name) ? hash.get(name) : value])));
}

// Writes the state into the address, now or, as browsers do not allow it often, a little later.
function writeState() {
  clearTimeout(writing);
  if (performance.now() - written < WRITE_PAUSE) writing = setTimeout(writeNow, WRITE_PAUSE);
  else writeNow();
}

// Writes what differs from the defaults into the address.
function writeNow() {
  written = performance.now();
  const isDefault = (name) => state[name] === DEFAULTS[name]
    || (name === "order" && state.order === directionsOf(state.sort)[0][0]);
  writeHash(Object.fromEntries(Object.keys(DEFAULTS).map(
    (name) => [name, isDefault(name) ? null : state[name]])));
}

// Changes the state and shows it.
function update(changes) {
  const before = { ...state };
  Object.assign(state, changes);
  writeState();
  showState((...names) => names.some((name) => state[name] !== before[name]));
}

// Shows the state. changed(...names): whether any of these is another than before.
function showState(changed) {
  if (changed("size")) showSize();
  if (changed("sort", "order", "find", "bin")) showRows();
  if (changed("bin")) drawCharts();
  if (changed("image", "view", "pair", "zoom", "factor", "sort", "order")) showViewer();
}

// ---- the parts of the page

// Sorts by a column, the worst first; once more by the same one turns the order round.
function sortBy(sort) {
  const [first, second] = directionsOf(sort).map(([value]) => value);
  update({ sort, order: state.sort === sort && state.order === first ? second : first });
}

// Shows only the images of a bin; once more, all.
function chooseBin(name, bin) {
  const chosen = `${name}:${bin}`;
  update({ bin: state.bin === chosen ? null : chosen });
}

// Draws the histograms.
function drawCharts() {
  chartsWidth = find("metrics").clientWidth;
  for (const metric of METRICS) {
    const card = document.querySelector(`[data-metric="${metric.name}"]`);
    const hint = card.querySelector(".hint");
    const [name, bin] = state.bin ? state.bin.split(":") : [];
    const bins = BINS[metric.name];
    if (!bins) continue;
    const usual = name === metric.name ? `Only ${binText(bins, Number(bin))} below`
      : "Click a bar for its images";
    hint.textContent = usual;
    drawHistogram(card.querySelector(".chart"), bins, {
      label: `Histogram of ${metric.label}: a bar shows only its images`,
      marks: metric.median === null ? [] // the mean is that of all pixels, not of these values
        : [{ name: "mean", value: metric.mean }, { name: "median", value: metric.median }],
      chosen: name === metric.name ? Number(bin) : null,
      choose: (chosen) => chooseBin(metric.name, chosen),
      hint: (text) => { hint.textContent = text || usual; },
    });
  }
}

// Sorts and filters the rows and shows them and the controls that say how.
function showRows() {
  shown = filterRows(sortRows());
  table.show(shown);
  const directions = directionsOf(state.sort);
  const metric = metricOf(state.sort);
  const isReversed = state.order === directions[1][0];
  const climbs = (!metric || metric.better === "higher") !== isReversed;
  table.markSorted(state.sort, climbs ? "ascending" : "descending");
  find("sort").value = state.sort;
  for (const choice of find("sorting").querySelectorAll(".choice")) {
    choice.hidden = choice.dataset.of !== (metric ? "metric" : "name");
    pressChoice(choice, state.order);
  }
  if (find("find").value !== state.find) find("find").value = state.find;
  showCount();
}

// Says how many rows are shown, and of which bin.
function showCount() {
  find("count").textContent = `${formatCount(shown.length)} of ${formatCount(ROWS.length)} shown`;
  const [name, bin] = state.bin ? state.bin.split(":") : [];
  find("unbin").hidden = !name;
  if (name) {
    find("unbin").textContent = `${metricOf(name).label} ${binText(BINS[name], Number(bin))} ✕`;
    find("unbin").setAttribute("aria-label", `Show all, not only ${find("unbin").textContent}`);
  }
  find("table").hidden = !shown.length;
  find("empty").hidden = shown.length > 0;
  find("empty").textContent = !ROWS.length ? "There are no images yet."
    : `No image has this name${name ? " and these values" : ""}.`;
}

// The size of the table's images: what was chosen, or what suits the window.
function showSize() {
  const width = document.documentElement.clientWidth;
  const size = state.size || Object.keys(WIDE).find((name) => width >= WIDE[name]);
  pressChoice(find("sizing").querySelector(".choice"), size);
  table.setSize(SIZES[size]);
}

// Opens, changes or closes the large view.
function showViewer() {
  const row = state.image === null ? null : ROWS.find(({ link }) => link === state.image);
  if (!row) {
    if (find("viewer").open) find("viewer").close();
    return;
  }
  if (!shown.includes(row)) { // a link to an image that the filter hides
    Object.assign(state, { find: "", bin: null });
    writeState();
    showRows();
    drawCharts();
  }
  const listed = listedRows();
  const place = listed.indexOf(row);
  viewer.show(row, { rank: place + 1, count: listed.length });
  for (const by of [1, -1]) viewer.prepare(listed[place + by]);
}

// The rows that the large view goes through: those shown, or all where one alone has been found.
function listedRows() {
  return shown.length > 1 ? shown : sortRows();
}

// Opens a row's large view.
function openRow(row) {
  update({ image: row.link });
}

// Opens the row that comes so many places after the open one.
function goBy(by) {
  const rows = listedRows();
  const row = rows[rows.findIndex(({ link }) => link === state.image) + by];
  if (row) openRow(row);
}

// Goes back to the table, at the row that was open.
function closeViewer() {
  const place = shown.findIndex(({ link }) => link === state.image);
  if (state.image !== null) update({ image: null });
  table.focus(place);
}

// Draws the first rows, and says above them which they are.
function prepareForPaper() {
  const order = directionsOf(state.sort).find(([value]) => value === state.order)[1];
  const by = state.sort === "name" ? "name" : metricOf(state.sort).label;
  find("printed").textContent = `${formatCount(Math.min(PRINTED, shown.length))} of `
    + `${formatCount(ROWS.length)} images, by ${by}, ${order}`;
  table.setPrinting(PRINTED);
}

// What a key does outside of a dialog and a text box.
function pressKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
  if (event.key === "?" && !find("keys").open) find("keys").showModal();
  else if (document.querySelector("dialog[open]")) return;
  else if (event.key === "/") find("find").focus();
  else if (event.key === "Escape" && state.bin) update({ bin: null });
  else return;
  event.preventDefault();
}

// In the box for a name: Enter opens the first row that has it, the arrow down goes to the rows.
function pressInFind(event) {
  if (event.isComposing || !shown.length) return;
  if (event.key === "Enter") openRow(shown[0]);
  else if (event.key === "ArrowDown") table.focus(0);
  else return;
  event.preventDefault();
}

// Calls a function now and then: when nothing has called it for a while.
function afterPause(act) {
  let timer = null;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, 100);
  };
}

// Makes the controls.
function drawControls() {
  find("sort").append(...[["name", "name"], ...METRICS.map(({ name, label }) => [name, label])]
    .map(([value, label]) => element("option", { value }, label)));
  find("sort").addEventListener("change", () => update(
    { sort: find("sort").value, order: directionsOf(find("sort").value)[0][0] }));
  for (const [of, directions] of Object.entries(DIRECTIONS)) {
    const choice = choiceOf("Order", directions, (order) => update({ order }));
    choice.dataset.of = of;
    find("sorting").append(choice);
  }
  find("sizing").append(choiceOf("Size of the images", Object.keys(SIZES).map(
    (size) => [size, size]), (size) => update({ size })));
  find("find").addEventListener("input", () => update({ find: find("find").value }));
  find("find").addEventListener("keydown", pressInFind);
  find("unbin").addEventListener("click", () => update({ bin: null }));
  for (const id of ["help", "viewer-help"]) {
    find(id).addEventListener("click", () => find("keys").showModal());
  }
  for (const link of document.querySelectorAll("[data-row]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      openRow(ROWS[Number(link.dataset.row)]);
    });
  }
}

// Builds the page.
function start() {
  find("images").hidden = false;
  const columns = [{ name: "name", label: "name", isMetric: false },
    ...METRICS.map(({ name, label, digits }) => ({ name, label, digits, isMetric: true }))];
  const parts = Math.max(1, METRICS.length);
  for (const [name, value] of [["parts", parts * KINDS.length], ["metric-span", KINDS.length],
    ["image-span", parts]]) find("table").style.setProperty(`--${name}`, value);
  table = new Table(find("table"), { columns, kinds: KINDS, open: openRow, sortBy });
  viewer = new Viewer({ kinds: KINDS, metrics: METRICS, state, update, go: goBy,
    describe: describeRank, closed: closeViewer });
  drawControls();
  Object.assign(state, readState());
  drawCharts();
  showState(() => true);
  document.addEventListener("keydown", pressKey);
  window.addEventListener("hashchange", () => update(readState()));
  window.addEventListener("beforeprint", prepareForPaper);
  window.addEventListener("afterprint", () => table.setPrinting(0));
  window.addEventListener("resize", afterPause(showSize));
  new ResizeObserver(afterPause(() => find("metrics").clientWidth === chartsWidth || drawCharts()))
    .observe(find("metrics"));
  new ResizeObserver(() => find("table").style.setProperty(
    "--bar-height", `${find("bar").offsetHeight}px`)).observe(find("bar"));
}

start();
