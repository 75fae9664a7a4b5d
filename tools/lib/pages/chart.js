"use strict";
// The charts of a run: one panel each, drawn as SVG, with one x axis, one cursor and one view.

const TOP = 10; // free above the plot
const BOTTOM = 34; // for the ticks of the x axis and its name
const LETTER = 6.6; // width of a letter of the labels, about
const BOLD_LETTER = 7.4; // of a bold one
const LABEL_HEIGHT = 13;
const NUM_COLOURS = 4;
const DOT_ROOM = 9; // pixels for each point from which all of a line are marked
const MAX_TABLE_ROWS = 500;
const SHORT = 45; // letters that have room in a line

let numCharts = 0; // made so far, for the ids of their parts

// What all charts show alike. span: part of the steps that are averaged; from: the first step
// shown; hover, chosen: steps that are marked, null if none; best: {metric, step, value} or null;
// names: of all lines, which have the same colour in all charts; margins: beside the plots.
function createView() {
  return { span: 0.02, log: false, from: 0, hover: null, chosen: null, best: null, names: [],
           margins: { left: 0, right: 0 } };
}

// One chart. height: of its plot in pixels, with the axis; actions: hover(step or null) and
// choose(step).
class Chart {
  constructor(spec, height, view, actions) {
    Object.assign(this, { spec, height, view, actions, run: null });
    numCharts += 1;
    const id = `chart-${numCharts}`;
    this.legend = element("p", { class: "legend" });
    this.plot = element("div", {
      class: "plot", role: "slider", tabindex: 0, "aria-label": `${spec.title}: step`,
      "aria-describedby": `${id}-summary`, onkeydown: (event) => this.press(event),
      onpointermove: (event) => this.pointAt(event), onpointerdown: (event) => this.pointAt(event),
      onpointerleave: (event) => event.pointerType === "touch" || actions.hover(null),
      onblur: () => actions.hover(null),
      onclick: () => view.hover === null || actions.choose(view.hover),
    });
    this.remarks = element("p", { class: "muted small remarks" });
    this.summary = element("p", { class: "spoken", id: `${id}-summary` });
    this.table = element("div", { class: "figures", role: "region", tabindex: 0,
                                  "aria-label": `Figures of ${spec.title}` });
    this.figures = element("div", { hidden: true, id: `${id}-figures` },
      element("button", { type: "button", onclick: () => this.download() }, "Download CSV"),
      this.table);
    this.toggle = element("button", {
      type: "button", class: "plain", "aria-expanded": "false", "aria-controls": `${id}-figures`,
      onclick: () => this.toggleFigures() }, "Table");
    this.element = element("figure", { class: "card chart" },
      element("figcaption", {},
        element("div", { class: "chart-head" }, element("h2", {}, spec.title),
          element("span", { class: "muted small" }, directionOf(spec)), this.toggle),
        createAbout(spec.about)),
      this.legend, this.plot, this.summary, this.remarks, this.figures);
    this.plot.style.height = `${height}px`;
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  // Takes new figures, to be drawn.
  update(run) {
    this.run = run;
    this.summary.textContent = this.describe();
    this.fillTable();
  }

  // Finds what the present view shows; returns the room that it needs beside the plot.
  prepare() {
    const steps = this.run.columns.step.filter((step) => step >= this.view.from);
    const [first, last] = [steps[0], steps[steps.length - 1]];
    const range = steps.length ? last - first : 0;
    this.domain = { last,
      low: first < 0.1 * last || first === last ? Math.min(this.view.from, first) : first };
    this.lines = this.spec.lines.map(({ name, column }) => {
      const points = pointsOf(this.run.columns, column, this.view.from);
      // a line with fewer points than rows is measured seldom: each of its points counts
      const few = 2 * points.length < steps.length || this.view.span * points.length < 1;
      const span = few ? 0 : this.view.span * range;
      const colour = `line-${this.view.names.indexOf(name) % NUM_COLOURS + 1}`;
      return { name, column, colour, points, smoothed: smooth(points, span), isSmoothed: span > 0 };
    });
    this.steps = [...new Set(this.lines.flatMap(({ points }) => points.map(({ step }) => step)))]
      .sort((a, b) => a - b);
    const values = this.lines.flatMap(({ points }) => points.map(({ value }) => value))
      .filter((value) => this.isDrawable(value));
    this.axis = createAxis(values, this.spec.healthy, this.view.log);
    const longest = Math.max(...this.axis.labels.map((label) => label.length));
    const names = this.lines.length > 1 ? this.lines.map(({ name }) => name.length) : [];
    return { left: 10 + LETTER * longest,
             right: Math.max(LETTER * formatCount(last || 0).length / 2,
               ...names.map((length) => 12 + BOLD_LETTER * length)) };
  }

  // Draws everything again.
  draw() {
    if (!this.lines || !this.plot.clientWidth) return;
    for (const line of this.lines) {
      line.marked = !line.isSmoothed && line.points.length * DOT_ROOM < this.plot.clientWidth;
    }
    this.scales = this.steps.length ? this.createScales() : null;
    this.svg = svgElement("svg", { width: this.plot.clientWidth, height: this.height,
                                   viewBox: `0 0 ${this.plot.clientWidth} ${this.height}`,
                                   "aria-hidden": "true" });
    if (this.scales) this.drawPlot();
    else this.drawEmpty();
    this.plot.replaceChildren(this.svg);
    this.showStep();
    this.showRemarks();
  }

  // What the axes show, and where: {left, right, top, bottom, x, y, ...}. Steps are at the same
  // place in all charts.
  createScales() {
    const { low, last } = this.domain;
    const { left } = this.view.margins;
    const right = this.plot.clientWidth - this.view.margins.right;
    const bottom = this.height - BOTTOM;
    const x = (step) => left + (right - left) * (step - low) / (last - low || 1);
    return { left, right, bottom, low, last, x, ticks: this.axis,
             y: (value) => bottom - (bottom - TOP) * this.axis.place(value) };
  }

  // Whether a value has a place in the chart.
  isDrawable(value) {
    return Number.isFinite(value) && (!this.view.log || value > 0);
  }

  drawEmpty() {
    this.svg.append(svgElement("text", { x: this.plot.clientWidth / 2, y: this.height / 2,
                                         "text-anchor": "middle" }, "no figures yet"));
  }

  drawPlot() {
    this.drawBand();
    this.drawAxes();
    this.marks = svgElement("g");
    this.svg.append(this.marks);
    this.lines.forEach((line) => this.drawLine(line));
    if (this.spec.healthy) this.svg.append(this.bandLabel); // over the lines
    this.drawLabels();
    this.drawGaps();
    this.drawBest();
    this.cursor = svgElement("g");
    this.svg.append(this.cursor);
  }

  // The range that is called healthy.
  drawBand() {
    if (!this.spec.healthy) return;
    const { left, right, bottom, y } = this.scales;
    const [low, high] = this.spec.healthy.map((value) =>
      this.isDrawable(value) ? Math.min(bottom, Math.max(TOP, y(value))) : bottom);
    this.svg.append(svgElement("rect", { class: "band", x: left, y: high, width: right - left,
                                         height: Math.max(0, low - high) }));
    this.bandLabel = svgElement("text", { class: "band-label", x: right - 4, y: high + 12,
                                          "text-anchor": "end" },
      `healthy: ${this.spec.healthy.join(" to ")}`);
  }

  drawAxes() {
    const { left, right, bottom, low, last, x, y, ticks } = this.scales;
    ticks.values.forEach((value, index) => this.svg.append(
      svgElement("path", { class: "grid", d: `M${left} ${y(value)}H${right}` }),
      svgElement("text", { class: "y-tick", x: left - 6, y: y(value) + 4, "text-anchor": "end" },
        ticks.labels[index])));
    const room = LETTER * (formatCount(last).length + 3);
    const steps = niceTicks(low, last, Math.max(1, Math.min(8, (right - left) / room)));
    for (const step of steps.values.filter(Number.isInteger)) {
      this.svg.append(
        svgElement("path", { class: "tick", d: `M${x(step)} ${bottom}v4` }),
        svgElement("text", { class: "x-tick", x: x(step), y: bottom + 16,
                             "text-anchor": "middle" }, formatCount(step)));
    }
    this.svg.append(
      svgElement("path", { class: "axis", d: `M${left} ${bottom}H${right}` }),
      svgElement("text", { x: (left + right) / 2, y: this.height - 4, "text-anchor": "middle" },
        "step"));
  }

  // A line: what was measured, faint where it is smoothed, and dots where there is room for them.
  drawLine(line) {
    const { colour, marked } = line;
    if (line.isSmoothed) this.drawPath(line.points, `raw ${colour}`);
    this.drawPath(line.smoothed, `smoothed ${colour}${marked ? " marked" : ""}`);
    if (!marked) return;
    const shown = line.smoothed.filter(({ value }) => this.isDrawable(value));
    const { x, y } = this.scales;
    for (const { step, value } of shown) {
      this.svg.append(svgElement("circle", { class: `dot ${colour}`, cx: x(step), cy: y(value),
                                             r: shown.length === 1 ? 4 : 2.5 }));
    }
  }

  // A path through points, thinned to the pixels, broken where a value cannot be drawn.
  drawPath(points, className) {
    const { x, y } = this.scales;
    const parts = splitAtGaps(points, (value) => this.isDrawable(value))
      .map((part) => thin(part, (step) => Math.floor(x(step))));
    const d = parts.map((part) => part.map(({ step, value }, index) =>
      `${index ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("")).join("");
    if (d) this.svg.append(svgElement("path", { class: className, d }));
  }

  // The names of lines at their ends, moved apart where these are near each other.
  drawLabels() {
    if (this.lines.length < 2) return;
    const { right, y, bottom } = this.scales;
    const labels = [];
    for (const { name, colour, smoothed } of this.lines) {
      const shown = smoothed.filter(({ value }) => this.isDrawable(value));
      if (shown.length) labels.push({ name, colour, at: y(shown[shown.length - 1].value) });
    }
    labels.sort((a, b) => a.at - b.at);
    labels.forEach((label, index) => {
      if (index) label.at = Math.max(label.at, labels[index - 1].at + LABEL_HEIGHT);
    });
    const over = labels.length ? Math.max(0, labels[labels.length - 1].at - bottom) : 0;
    for (const { name, colour, at } of labels) {
      this.svg.append(svgElement("text", { class: `name ${colour}`,
                                           x: right + 7, y: at + 4 - over }, name));
    }
  }

  // A cross at the top for each step at which a value is not finite.
  drawGaps() {
    const bad = this.lines.flatMap(({ points }) => points)
      .filter(({ value }) => !Number.isFinite(value));
    const places = new Set(bad.map(({ step }) => Math.round(this.scales.x(step))));
    for (const x of places) {
      this.svg.append(svgElement("path", { class: "gap", d: `M${x - 3} ${TOP}l6 6m0 -6l-6 6` }));
    }
  }

  // The best checkpoint: a ring on the line of its metric, a star at the axis of the other charts.
  drawBest() {
    const { best } = this.view;
    const { low, last, x, y, bottom } = this.scales;
    if (!best || best.step < low || best.step > last) return;
    const at = x(best.step);
    const value = best.metric === this.spec.title && this.isDrawable(best.value)
      ? y(best.value) : null;
    if (value === null) {
      this.svg.append(svgElement("text", { class: "best", x: at, y: bottom - 3,
                                           "text-anchor": "middle" }, "★"));
      return;
    }
    const text = `★ best ${formatValue(best.value)}`;
    const place = this.placeBest(at, value, BOLD_LETTER * text.length);
    this.svg.append(
      svgElement("circle", { class: "best-ring", cx: at, cy: value, r: 5.5 }),
      svgElement("text", { class: "best", "text-anchor": "middle", ...place }, text));
  }

  // Where a label of a width covers no line: as near to the ring at a point as there is such a
  // place, or else above or below it.
  placeBest(ringX, ringY, width) {
    const { left, right, bottom, x, y } = this.scales;
    const lines = this.lines.flatMap(({ points, smoothed }) => [points, smoothed])
      .flatMap((points) => splitAtGaps(points, (value) => this.isDrawable(value)))
      .map((points) => points.map(({ step, value }) => [x(step), y(value)]));
    const places = [];
    for (let up = TOP + 11; up <= bottom - 4; up += 4) {
      for (const side of [0, -0.5, 0.5, -1, 1]) {
        const middle = Math.max(left + width / 2, Math.min(right - width / 2,
          ringX + side * width));
        const far = Math.hypot(middle - ringX, 2 * (up - 4 - ringY)); // above and below are better
        if (Math.abs(up - 4 - ringY) > 13 || Math.abs(middle - ringX) > width / 2 + 7) {
          places.push({ x: middle, y: up, far });
        }
      }
    }
    places.sort((one, other) => one.far - other.far);
    const free = places.find((place) => !lines.some((points) => isCrossed(points,
      place.x - width / 2, place.x + width / 2, place.y - 12, place.y + 4)));
    return (({ x: middle, y: up }) => ({ x: middle, y: up }))(free || places[0]);
  }

  // ---- the cursor and the legend

  // Marks the step of the cursor and of the images; shows the values at the cursor.
  showStep() {
    if (!this.lines) return;
    const step = this.shownStep();
    if (this.scales) this.drawCursor();
    const texts = this.lines.map((line) => this.valueTexts(line, step));
    this.legend.replaceChildren(
      element("span", { class: "at" }, step === null ? "no figures yet"
        : `${this.view.hover === null ? "newest, " : ""}step ${formatCount(step)}`),
      ...this.lines.map((line, index) => this.createKey(line, texts[index])));
    setAttributes(this.plot, {
      "aria-valuemin": this.steps[0] ?? 0, "aria-valuenow": step ?? 0,
      "aria-valuemax": this.steps[this.steps.length - 1] ?? 0,
      "aria-valuetext": step === null ? "no figures yet" : `step ${step}: ` +
        this.lines.map(({ name }, index) => `${name} ${texts[index].join(" ")}`).join(", "),
    });
  }

  // The step whose values are shown: the cursor's, or else the newest. null without figures.
  shownStep() {
    const wanted = this.view.hover ?? Infinity;
    const index = nearestIndex(this.steps, wanted);
    return index < 0 ? null : this.steps[wanted === Infinity ? this.steps.length - 1 : index];
  }

  // A line's value nearest to a step, smoothed too where it is, and its own step where it differs.
  valueTexts({ points, smoothed, isSmoothed }, step) {
    const index = step === null ? -1 : nearestIndex(points.map((point) => point.step), step);
    if (index < 0) return ["–"];
    const point = points[index];
    const texts = [formatValue(point.value)];
    if (isSmoothed && Number.isFinite(point.value)) {
      texts.push(`smoothed ${formatValue(smoothed[index].value)}`);
    }
    if (point.step !== step) texts.push(`at step ${formatCount(point.step)}`);
    return texts;
  }

  // The best value of a line of validations, in words; "" for other lines.
  bestText({ name, points }) {
    const known = finite(points);
    if (!this.spec.better || !isValidation({ name }) || !known.length) return "";
    const { step, value } = known[bestIndex(known, this.spec.better)];
    return `best ${formatValue(value)} at step ${formatCount(step)}`;
  }

  // A line's entry in the legend.
  createKey(line, [value, ...more]) {
    const { name, colour, marked } = line;
    const swatch = svgElement("svg", { width: 22, height: 8, "aria-hidden": "true" },
      svgElement("path", { class: `smoothed ${colour}${marked ? " marked" : ""}`, d: "M0 4H22" }),
      ...(marked ? [svgElement("circle", { class: `dot ${colour}`, cx: 11, cy: 4, r: 3 })] : []));
    return element("span", { class: "key" }, swatch, `${name} `, element("b", {}, value),
      element("span", { class: "muted small" }, more.join(" ")),
      element("span", { class: "muted small own-best" }, this.bestText(line)));
  }

  // Lines through the plot at the step of the cursor and at that of the images.
  drawCursor() {
    const { low, last, left, right, x, y, bottom } = this.scales;
    const { hover, chosen } = this.view;
    this.marks.replaceChildren();
    this.cursor.replaceChildren();
    if (chosen !== null && chosen >= low && chosen <= last) {
      this.marks.append(
        svgElement("path", { class: "chosen", d: `M${x(chosen)} ${TOP}V${bottom}` }),
        svgElement("path", { class: "chosen-mark", d: `M${x(chosen)} ${TOP}l-5 -7h10z` }));
    }
    if (hover === null || hover < low || hover > last) return;
    const step = this.shownStep();
    this.cursor.append(svgElement("path", { class: "cursor", d: `M${x(step)} ${TOP}V${bottom}` }));
    for (const { colour, smoothed } of this.lines) {
      const point = smoothed[nearestIndex(smoothed.map((one) => one.step), step)];
      if (!point || !this.isDrawable(point.value) || x(point.step) < left || x(point.step) > right)
        continue;
      this.cursor.append(svgElement("circle", { class: `dot ${colour}`,
                                                cx: x(point.step), cy: y(point.value), r: 4 }));
    }
  }

  // Moves the cursor to the step nearest to the pointer.
  pointAt(event) {
    if (!this.scales) return;
    const { left, right, low, last } = this.scales;
    const at = event.clientX - this.plot.getBoundingClientRect().left;
    const wanted = low + (last - low) * (at - left) / (right - left);
    this.actions.hover(this.steps[nearestIndex(this.steps, wanted)]);
  }

  // Moves the cursor by keys: arrows, page up and down, home, end; enter chooses its step.
  press(event) {
    if (!this.scales) return;
    const index = this.steps.indexOf(this.shownStep());
    const page = Math.max(1, Math.round(this.steps.length / 10));
    const target = { ArrowLeft: index - 1, ArrowDown: index - 1, ArrowRight: index + 1,
                     ArrowUp: index + 1, PageDown: index - page, PageUp: index + page, Home: 0,
                     End: this.steps.length - 1 }[event.key];
    if (target !== undefined) {
      this.actions.hover(this.steps[Math.max(0, Math.min(this.steps.length - 1, target))]);
    } else if (event.key === "Enter" || event.key === " ") {
      this.actions.choose(this.shownStep());
    } else if (event.key === "Escape") {
      this.actions.hover(null);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  // ---- words and tables

  // What the chart shows, for those who cannot see it.
  describe() {
    const texts = this.spec.lines.map(({ name, column }) => {
      const points = finite(pointsOf(this.run.columns, column));
      if (!points.length) return `${name}: no figures yet.`;
      const [low, high] = ["lower", "higher"].map((better) => points[bestIndex(points, better)]);
      return `${name}: ${formatCount(points.length)} values, newest ` +
        `${formatValue(points[points.length - 1].value)}, lowest ${formatValue(low.value)} at ` +
        `step ${low.step}, highest ${formatValue(high.value)} at step ${high.step}.`;
    });
    return `${this.spec.title}, by step. ${texts.join(" ")}`;
  }

  // What could not be drawn.
  showRemarks() {
    const values = this.lines.flatMap(({ points }) => points.map(({ value }) => value));
    const bad = values.filter((value) => !Number.isFinite(value)).length;
    const low = values.filter((value) => Number.isFinite(value) && !this.isDrawable(value)).length;
    const remarks = [];
    if (bad) remarks.push(`× ${plural(bad, "value")} NaN or infinite`);
    if (low) remarks.push(`${plural(low, "value")} of 0 or less cannot be shown on a log scale`);
    this.remarks.textContent = remarks.join("; ");
  }

  // The rows of this chart: step and a value per line, where a line has any.
  rows() {
    const { columns } = this.run;
    return columns.step.map((step, row) =>
      [step, ...this.spec.lines.map(({ column }) => (columns[column] || [])[row] ?? null)])
      .filter(([, ...values]) => values.some((value) => value !== null));
  }

  // Shows or hides the table.
  toggleFigures() {
    this.figures.hidden = !this.figures.hidden;
    this.toggle.setAttribute("aria-expanded", !this.figures.hidden);
    this.fillTable();
  }

  // The newest rows as a table, while it is open.
  fillTable() {
    if (this.figures.hidden || !this.run) return;
    const rows = this.rows();
    const shown = rows.slice(-MAX_TABLE_ROWS).reverse();
    const names = ["step", ...this.spec.lines.map(({ name }) => name)];
    const caption = rows.length > shown.length
      ? `The newest ${shown.length} of ${formatCount(rows.length)} rows; the CSV file has all.`
      : `${plural(rows.length, "row")}, the newest first.`;
    this.table.replaceChildren(element("table", {},
      element("caption", { class: "muted small" }, caption),
      element("thead", {}, element("tr", {}, ...names.map((name) =>
        element("th", { scope: "col", class: "number" }, name)))),
      element("tbody", {}, ...shown.map(([step, ...values]) => element("tr", {},
        element("th", { scope: "row", class: "number" }, formatCount(step)),
        ...values.map((value) => element("td", { class: "number" },
          value === null ? "" : formatValue(value))))))));
  }

  // Gives all rows as a file.
  download() {
    const names = ["step", ...this.spec.lines.map(({ column }) => column)];
    const lines = [names, ...this.rows()].map((row) => row.map(csvCell).join(",") + "\n");
    const url = URL.createObjectURL(new Blob(lines, { type: "text/csv" }));
    element("a", { href: url, download: `${this.spec.title.replace(/\W+/g, "-")}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  }
}

// Whether a line of [x, y], from left to right, comes into a rectangle.
function isCrossed(points, left, right, top, bottom) {
  const yAt = ([x0, y0], [x1, y1], x) => x1 === x0 ? y0 : y0 + (y1 - y0) * (x - x0) / (x1 - x0);
  return points.some((point, index) => {
    const before = points[Math.max(0, index - 1)];
    if (point[0] < left || before[0] > right) return false;
    const ys = [Math.max(left, before[0]), Math.min(right, point[0])].map(
      (x) => yAt(before, point, x));
    return Math.max(...ys) >= top && Math.min(...ys) <= bottom;
  });
}

// What a chart shows, in a line; what follows a colon or semicolon, or has no room, unfolds.
function createAbout(text) {
  const [, first, rest] = text.match(/^(.*?)[;:] (.*)$/s) || [null, text, ""];
  if (text.length < SHORT) return element("p", { class: "muted small about" }, text);
  return element("details", { class: "muted small about" },
    element("summary", { title: text }, first), element("p", {}, rest));
}

// Which direction is better, in words.
function directionOf(spec) {
  return spec.better ? `${spec.better} is better` : "";
}

// The y axis of values: {values, labels: its ticks, place: value -> 0..1}. band: a range that is
// shown too, or null.
function createAxis(values, band, log) {
  const shown = [...values, ...(band || []).filter((value) => !log || value > 0)];
  let low = shown.reduce((least, value) => Math.min(least, value), Infinity);
  let high = shown.reduce((most, value) => Math.max(most, value), -Infinity);
  if (!shown.length) [low, high] = log ? [0.1, 1] : [0, 1];
  const scale = log ? Math.log10 : (value) => value;
  const back = log ? (value) => 10 ** value : (value) => value;
  const margin = 0.06 * (scale(high) - scale(low)) || (log ? 0.05 : 0.1 * Math.abs(high) || 1);
  const bottom = !log && low >= 0 && low < margin ? 0 : scale(low) - margin;
  const top = scale(high) + margin;
  let ticks = { values: log ? logTicks(back(bottom), back(top), 5) : [], digits: null };
  if (ticks.values.length < 3) ticks = niceTicks(back(bottom), back(top), 5);
  const labels = ticks.values.map((value) => (ticks.digits === null
    ? String(Number(value.toPrecision(4))) : value.toFixed(ticks.digits)).replace("-", "−"));
  const place = (value) => (scale(value) - bottom) / (top - bottom);
  return { values: ticks.values, labels, place };
}

// A cell of a CSV file.
function csvCell(value) {
  const text = String(value ?? "");
  return /[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}
