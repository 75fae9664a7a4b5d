// Histograms: bins of round width, a chart of them, a bar at a time by keyboard.

const CHART_HEIGHT = 104; // pixels, with axes and labels
const CHART_MARGIN = { top: 30, right: 10, bottom: 22, left: 34 };
const LABEL_WIDTH = 48; // pixels of a mark's name

// Bins of finite values between multiples of a round step: {step, digits, first, counts}. Bin
// number n holds the values from n * step to (n + 1) * step; the first of counts is bin `first`.
function binValues(values, digits) {
  const finite = values.filter(Number.isFinite);
  if (!finite.length) return null;
  const low = finite.reduce((one, other) => Math.min(one, other));
  const high = finite.reduce((one, other) => Math.max(one, other));
  const most = Math.min(24, Math.max(8, 2 * Math.ceil(Math.sqrt(finite.length))));
  const step = high > low ? niceStep(high - low, most) : 10 ** -digits;
  const bins = { step, digits: digitsOf(step), first: Math.floor(low / step + 1e-9), counts: [] };
  bins.counts = Array(Math.floor(high / step + 1e-9) - bins.first + 1).fill(0);
  for (const value of finite) bins.counts[binOf(bins, value) - bins.first] += 1;
  return bins;
}

// The number of the bin that a value falls into; NaN where it is not finite.
function binOf(bins, value) {
  return Number.isFinite(value) ? Math.floor(value / bins.step + 1e-9) : NaN;
}

// The range of a bin: "0.20 to 0.22".
function binText(bins, bin) {
  const [low, high] = [bin, bin + 1].map((edge) => formatNumber(edge * bins.step, bins.digits));
  return `${low} to ${high}`;
}

// How many images a bin holds: "12 images".
function countText(count) {
  return `${formatCount(count)} ${count === 1 ? "image" : "images"}`;
}

// Where values and counts lie in a chart of a width: {x, y, right, bottom, most}.
function scalesOf(bins, width) {
  const { top, right, bottom, left } = CHART_MARGIN;
  const most = Math.max(...bins.counts);
  const low = bins.first * bins.step;
  const scale = (width - left - right) / (bins.counts.length * bins.step);
  return {
    x: (value) => left + (value - low) * scale,
    y: (count) => CHART_HEIGHT - bottom - (CHART_HEIGHT - top - bottom) * count / most,
    right: width - right, bottom: CHART_HEIGHT - bottom, most,
  };
}

// Axes with numbers, and lines across at the counts.
function drawAxes(bins, scales) {
  const { x, y, right, bottom, most } = scales;
  const low = bins.first * bins.step;
  const left = x(low);
  const across = niceTicks(low, low + bins.counts.length * bins.step, (right - left) / 64);
  const up = niceTicks(0, most, Math.min(3, most));
  const nodes = up.values.flatMap((count) => [
    svgElement("line", { class: "grid", x1: left, x2: right, y1: y(count), y2: y(count) }),
    svgElement("text", { x: left - 6, y: y(count) + 4, "text-anchor": "end" },
      formatCount(count))]);
  for (const value of across.values) {
    nodes.push(
      svgElement("line", { class: "tick", x1: x(value), x2: x(value), y1: bottom, y2: bottom + 4 }),
      svgElement("text", { x: x(value), y: bottom + 17, "text-anchor": "middle" },
        formatNumber(value, across.digits)));
  }
  nodes.push(svgElement("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
  return svgElement("g", { "aria-hidden": "true" }, ...nodes);
}

// A line at a value, with its name beside its upper end.
function drawMark(scales, { name, value, y, anchor }) {
  const x = scales.x(value);
  return svgElement("g", { class: `mark mark-${name}`, "aria-hidden": "true" },
    svgElement("line", { x1: x, x2: x, y1: y - 9, y2: scales.bottom }),
    svgElement("text", { x: x + (anchor === "end" ? -5 : 5), y, "text-anchor": anchor }, name));
}

// Two lines whose names do not meet: that of the lower value left of its line, the other right of
// its own; where there is no room on the other side, above. marks: two of {name, value}, or none.
function drawMarks(scales, marks) {
  if (!marks.length) return [];
  const [lower, upper] = [...marks].sort((one, other) => one.value - other.value);
  const isFree = [scales.x(lower.value) > CHART_MARGIN.left + LABEL_WIDTH,
    scales.x(upper.value) < scales.right - LABEL_WIDTH];
  return [
    drawMark(scales, { ...lower, y: isFree[0] ? 24 : 11, anchor: isFree[0] ? "end" : "start" }),
    drawMark(scales, { ...upper, y: isFree[1] ? 24 : 11, anchor: isFree[1] ? "start" : "end" })];
}

// A bar: as high as its count and clickable over the whole height.
function drawBar(bins, scales, bin, isChosen) {
  const count = bins.counts[bin - bins.first];
  const [left, right] = [scales.x(bin * bins.step), scales.x((bin + 1) * bins.step)];
  const height = count ? Math.max(2, scales.bottom - scales.y(count)) : 0;
  return svgElement("g", {
    class: "bar", role: "button", tabindex: -1, "data-bin": bin, "aria-pressed": String(isChosen),
    "aria-label": `${binText(bins, bin)}: ${countText(count)}` },
  svgElement("rect", { class: "hit", x: left, width: right - left, y: CHART_MARGIN.top,
    height: scales.bottom - CHART_MARGIN.top }),
  svgElement("rect", { class: "fill", x: left + 0.5, width: Math.max(1, right - left - 1),
    y: scales.bottom - height, height }));
}

// Makes one of the bars the one that Tab reaches.
function aimAt(bars, bar) {
  for (const other of bars) other.setAttribute("tabindex", other === bar ? 0 : -1);
}

// Arrow keys, Home and End move among the bars; Enter and Space press one.
function moveAmongBars(event, bars, choose) {
  const at = bars.indexOf(event.target);
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: bars.length - 1 }[event.key];
  if (event.key === "Enter" || event.key === " ") choose(Number(event.target.dataset.bin));
  else if (to === undefined) return;
  else if (bars[to]) {
    aimAt(bars, bars[to]);
    bars[to].focus();
  }
  event.preventDefault();
}

// Draws a histogram into a box. marks: lines to draw; chosen: bin that is shown alone, or null;
// choose(bin) is called by a click or Enter; hint(text) with what is under the pointer or focus,
// and null.
function drawHistogram(box, bins, { label, marks, chosen, choose, hint }) {
  const focused = box.contains(document.activeElement)
    ? document.activeElement.dataset.bin : undefined;
  const width = Math.max(200, box.clientWidth);
  const scales = scalesOf(bins, width);
  const bars = bins.counts.map((_, index) => drawBar(
    bins, scales, bins.first + index, chosen === bins.first + index));
  for (const bar of bars) {
    const text = bar.getAttribute("aria-label");
    bar.addEventListener("click", () => choose(Number(bar.dataset.bin)));
    for (const name of ["pointerenter", "focus"]) bar.addEventListener(name, () => hint(text));
    for (const name of ["pointerleave", "blur"]) bar.addEventListener(name, () => hint(null));
  }
  const group = svgElement("g", { class: chosen === null ? "bars" : "bars some-chosen",
    onkeydown: (event) => moveAmongBars(event, bars, choose) }, ...bars);
  box.replaceChildren(svgElement("svg", {
    width, height: CHART_HEIGHT, viewBox: `0 0 ${width} ${CHART_HEIGHT}`, role: "group",
    "aria-label": label },
  drawAxes(bins, scales), group, ...drawMarks(scales, marks)));
  const aimed = bars.find((bar) => bar.dataset.bin === focused)
    || bars.find((bar) => bar.getAttribute("aria-pressed") === "true") || bars[0];
  aimAt(bars, aimed);
  if (focused !== undefined) aimed.focus();
}
