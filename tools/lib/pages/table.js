// The table of all images. Only the rows in sight are in the document: ten thousand would take
// seconds to lay out.

const OVERSCAN = 6; // rows above and below those in sight
const NAME_WIDTH = 9; // rem, at least; the next are those of test.css
const MOST_NAME_WIDTH = 16;
const METRIC_WIDTH = 6;
const IMAGE_GAP = 0.75;
const MAX_ASPECT = 4; // width / height of an image's place

// Rows by name as people count: 2 before 10.
function orderByName(rows) {
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  return [...rows].sort((one, other) => compare(one.name, other.name) || one.index - other.index);
}

// Rows in the order of a metric, the worst first. NaN comes last, and equal values by name.
function orderByMetric(rowsByName, metric) {
  const sign = metric.better === "lower" ? -1 : 1;
  const value = (row) => row.values[metric.name];
  const known = rowsByName.filter((row) => !Number.isNaN(value(row)));
  const unknown = rowsByName.filter((row) => Number.isNaN(value(row)));
  known.sort((one, other) => value(one) === value(other) ? 0 : sign * (value(one) - value(other)));
  return { known, unknown };
}

class Table {
  // columns: {name, label, isMetric, digits}; open(row) is called by a click or Enter.
  constructor(table, { columns, kinds, open, sortBy }) {
    Object.assign(this, { table, columns, kinds, open });
    this.body = table.tBodies[0];
    this.head = table.tHead.rows[0];
    this.rows = [];
    this.active = 0; // the place of the row that Tab reaches
    this.drawn = new Map(); // row -> its element
    this.above = this.createSpacer();
    this.below = this.createSpacer();
    this.rowHeight = 0;
    this.size = 96; // pixels, of an image's height
    this.aspects = new Map(); // kind -> width / height of the widest image that has been seen
    this.drawHead(sortBy);
    this.body.addEventListener("keydown", (event) => this.moveByKey(event));
    for (const name of ["scroll", "resize"]) {
      window.addEventListener(name, () => this.drawLater(), { passive: true });
    }
    new ResizeObserver(() => this.measure()).observe(table);
  }

  // A row that stands for those that are not drawn.
  createSpacer() {
    return element("tr", { class: "spacer", "aria-hidden": "true" },
      element("td", { colspan: this.columns.length + this.kinds.length }));
  }

  // The header: a button per column that can be sorted by.
  drawHead(sortBy) {
    this.head.replaceChildren(
      ...this.columns.map(({ name, label, isMetric }) => element(
        "th", { role: "columnheader", scope: "col", "data-column": name,
          class: isMetric ? "metric number" : "name" },
        element("button", { type: "button", onclick: () => sortBy(name) },
          label, element("span", { class: "arrow", "aria-hidden": "true" })))),
      ...this.kinds.map((kind) => element(
        "th", { role: "columnheader", scope: "col", class: "image" }, kind.slice(0, -1))));
  }

  // Marks the column that rows are sorted by. direction: "ascending" or "descending".
  markSorted(name, direction) {
    for (const head of this.head.querySelectorAll("[data-column]")) {
      const isSorted = head.dataset.column === name;
      if (isSorted) head.setAttribute("aria-sort", direction);
      else head.removeAttribute("aria-sort");
      head.querySelector(".arrow").textContent =
        isSorted ? (direction === "ascending" ? "▲" : "▼") : "";
    }
  }

  // Draws images of a height in pixels, or of less where the table would be too wide.
  setSize(size) {
    this.size = size;
    this.fitImages();
    this.measure();
  }

  // Makes places for images of the shapes that have been seen.
  fitImages() {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const room = this.table.parentElement.clientWidth - rem * (NAME_WIDTH
      + METRIC_WIDTH * (this.columns.length - 1) + IMAGE_GAP * this.kinds.length);
    const aspects = this.kinds.map((kind) => this.aspects.get(kind) || 1);
    const sum = aspects.reduce((one, other) => one + other);
    const thumb = Math.min(this.size, Math.floor(room / sum));
    this.table.style.setProperty("--thumb", `${thumb}px`);
    const free = room - thumb * sum - rem * (MOST_NAME_WIDTH - NAME_WIDTH);
    this.table.style.setProperty("--free", `${Math.max(0, Math.floor(free))}px`);
    this.head.querySelectorAll(".image").forEach(
      (head, index) => head.style.setProperty("--aspect", aspects[index]));
  }

  // Makes the places of a kind wider for an image, if it is wider than those before.
  learnAspect(kind, image) {
    const aspect = Math.min(MAX_ASPECT, image.naturalWidth / image.naturalHeight);
    if (aspect <= (this.aspects.get(kind) || 0)) return;
    this.aspects.set(kind, aspect);
    this.fitImages();
    this.measure();
  }

  // Shows these rows in this order.
  show(rows) {
    this.rows = rows;
    this.active = 0;
    this.table.setAttribute("aria-rowcount", rows.length + 1);
    this.redraw();
    const above = this.table.tHead.getBoundingClientRect().bottom
      - this.body.getBoundingClientRect().top;
    if (above > 0) window.scrollBy(0, -above); // to the first of them
  }

  // Draws all rows in sight once more.
  redraw() {
    this.drawn.clear();
    this.body.replaceChildren(this.above, this.below);
    this.range = null;
    this.measure();
  }

  // Measures how high a row is; all are alike.
  measure() {
    if (this.rows.length && !this.drawn.size) this.drawRange(0, 1);
    const [sample] = this.drawn.values();
    if (sample) this.rowHeight = sample.getBoundingClientRect().height;
    this.range = null;
    this.draw();
  }

  // Draws at the next frame.
  drawLater() {
    this.frame = this.frame || requestAnimationFrame(() => this.draw());
  }

  // The places of the rows in sight: first, and one after the last.
  rangeInSight() {
    const top = this.body.getBoundingClientRect().top;
    const first = Math.floor(-top / this.rowHeight) - OVERSCAN;
    const last = Math.ceil((window.innerHeight - top) / this.rowHeight) + OVERSCAN;
    return [first, last].map((place) => Math.max(0, Math.min(this.rows.length, place)));
  }

  // Draws the rows in sight and removes the others.
  draw() {
    this.frame = null;
    if (!this.rows.length || !this.rowHeight || this.isPrinting) return;
    this.drawRange(...this.rangeInSight());
  }

  // Draws the rows from a place to another, which is not drawn.
  drawRange(first, last) {
    if (this.range && this.range[0] === first && this.range[1] === last) return;
    this.range = [first, last];
    const rows = this.rows.slice(first, last);
    const kept = new Set(rows);
    // meanwhile the page must not be shorter than the place that it is scrolled to
    this.below.style.height = `${this.rows.length * this.rowHeight}px`;
    for (const [row, node] of this.drawn) {
      if (!kept.has(row)) {
        node.remove();
        this.drawn.delete(row);
      }
    }
    let before = this.above;
    rows.forEach((row, offset) => {
      const node = this.drawn.get(row) || this.drawRow(row, first + offset);
      if (before.nextSibling !== node) before.after(node);
      before = node;
    });
    this.above.style.height = `${first * this.rowHeight}px`;
    this.below.style.height = `${(this.rows.length - last) * this.rowHeight}px`;
    this.aim();
  }

  // An element for a row at a place.
  drawRow(row, place) {
    const cells = this.columns.map(({ name, label, isMetric, digits }) => isMetric
      ? element("td", { role: "cell", class: "metric number", "data-label": label },
        formatNumber(row.values[name], digits))
      : element("th", { role: "rowheader", scope: "row", class: "name" },
        element("button", { type: "button", tabindex: -1, title: row.name }, row.name)));
    const images = this.kinds.map((kind) => element(
      "td", { role: "cell", class: "image" },
      thumbnailOf(row, kind, (image) => this.learnAspect(kind, image))));
    const node = element("tr", { role: "row", "aria-rowindex": place + 2, "data-place": place,
      onclick: () => this.open(row) }, ...cells, ...images);
    this.drawn.set(row, node);
    return node;
  }

  // Makes one row the one that Tab reaches: the active one, or the first in sight.
  aim() {
    const active = this.drawn.get(this.rows[this.active]);
    const inSight = [...this.drawn.values()].find(
      (node) => node.getBoundingClientRect().top >= 0);
    const aimed = active || inSight;
    for (const node of this.drawn.values()) {
      node.querySelector("button").setAttribute("tabindex", node === aimed ? 0 : -1);
    }
  }

  // Moves the focus among rows: arrows, a page at a time, to the ends.
  moveByKey(event) {
    const node = event.target.closest("tr[data-place]");
    if (!node || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const place = Number(node.dataset.place);
    const page = Math.max(1, Math.floor(window.innerHeight / this.rowHeight) - 1);
    const to = { ArrowUp: place - 1, ArrowDown: place + 1, PageUp: place - page,
      PageDown: place + page, Home: 0, End: this.rows.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.focus(Math.max(0, Math.min(this.rows.length - 1, to)));
  }

  // Scrolls to the row of a place and gives it the focus.
  focus(place) {
    if (!this.rows[place]) return;
    this.active = place;
    const top = this.body.getBoundingClientRect().top + place * this.rowHeight;
    const covered = this.table.tHead.getBoundingClientRect().bottom;
    const lowest = window.innerHeight - this.rowHeight;
    if (top < covered) window.scrollBy(0, top - Math.max(0, covered));
    else if (top > lowest) window.scrollBy(0, Math.min(top - lowest, top - covered));
    this.draw();
    this.aim();
    const node = this.drawn.get(this.rows[place]);
    if (node) node.querySelector("button").focus({ preventScroll: true });
  }

  // Draws the first rows alone, for paper, or again those in sight.
  setPrinting(count) {
    this.isPrinting = count > 0;
    if (this.isPrinting) {
      this.drawRange(0, Math.min(count, this.rows.length));
      this.below.style.height = "0";
    } else this.redraw();
  }
}

// Where the image is that shows a kind of a row.
function sourceOf(row, kind) {
  return `images/${row.link}${ENDINGS[kind][0]}`;
}

// A small image of a row, for which loaded(image) is called once it is there. Where it is at least
// twice as large its pixels stay sharp.
function thumbnailOf(row, kind, loaded) {
  const image = element("img", { alt: "", decoding: "async", src: sourceOf(row, kind),
    onload: () => {
      const { naturalWidth, naturalHeight, clientWidth, clientHeight } = image;
      image.classList.toggle(
        "enlarged", 2 * naturalWidth <= clientWidth && 2 * naturalHeight <= clientHeight);
      loaded(image);
    } });
  return image;
}
