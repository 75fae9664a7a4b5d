// The large view of a row: its images side by side, swiped, flipped or their difference. From twice
// their size on, images are enlarged by whole device pixels, so nothing is blurred.

const VIEWS = [["side", "Side by side"], ["swipe", "Swipe"], ["flip", "Flip"],
  ["difference", "Difference"]];
const ZOOMS = [["fit", "Fit"], ["1", "1×"], ["2", "2×"], ["4", "4×"], ["8", "8×"]];
const FACTORS = [["1", "×1"], ["4", "×4"], ["8", "×8"]];
const VIEW_KEYS = { s: "side", w: "swipe", f: "flip", d: "difference" };
const MOVES = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };
const GAP = 8; // pixels between panes
const SNAP_ROOM = 2; // pixels of a box that its images need to lie on device pixels
const MIN_PANE = 150; // pixels, for the text above an image
const PAN_STEP = 64; // pixels by an arrow key
const WHEEL_STEP = 100; // of a wheel's delta for one zoom

// "output" of "outputs".
function kindLabel(kind) {
  return kind.slice(0, -1);
}

// The pairs of kinds that may be compared: output and target first.
function pairsOf(kinds) {
  const pairs = [["outputs", "targets"], ["inputs", "outputs"], ["inputs", "targets"]];
  return pairs.filter((pair) => pair.every((kind) => kinds.includes(kind)))
    .map((pair) => [pair.join("-"), pair.map(kindLabel).join(" and ")]);
}

// The scale at which images of these sizes fit, and whether they fit best in a row: panes of the
// sizes {width, height} share a stage, with a line of text for each.
function fitPanes(sizes, { width, height, textHeight }) {
  const sum = (name) => sizes.reduce((total, size) => total + size[name], 0);
  const most = (name) => Math.max(...sizes.map((size) => size[name]));
  const gaps = GAP * (sizes.length - 1) + SNAP_ROOM * sizes.length;
  const across = Math.min((width - gaps) / sum("width"),
    (height - SNAP_ROOM - textHeight) / most("height"));
  const down = Math.min((width - SNAP_ROOM) / most("width"),
    (height - gaps - textHeight * sizes.length) / sum("height"));
  return { isRow: across >= down, scale: Math.max(across, down, 1e-3) };
}

// Device pixels per image pixel: of "fit" the largest whole number that fits, or where this is less
// than 2 what fills the place.
function pixelScale(zoom, fitScale) {
  if (zoom !== "fit") return Number(zoom);
  return fitScale >= 2 ? Math.floor(fitScale) : fitScale;
}

// Where an image begins in its box, so that center lies in the middle and no gap opens that need
// not: CSS pixels. length: of the image; center: in it.
function offsetOf(boxLength, length, center) {
  if (length <= boxLength) return (boxLength - length) / 2;
  return Math.max(boxLength - length, Math.min(0, boxLength / 2 - center));
}

// The nearest place that lies on a device pixel. start: of the box that the place counts from.
function snap(start, place) {
  const ratio = window.devicePixelRatio;
  return Math.round((start + place) * ratio) / ratio - start;
}

class Viewer {
  // kinds: of images; metrics: with name, label, digits; state: what the address holds of the view;
  // update(changes) changes that; go(by) opens another row; describe(row, metric) is its rank.
  constructor({ kinds, metrics, state, update, go, describe, closed }) {
    Object.assign(this, { kinds, metrics, state, update, go, describe });
    this.dialog = find("viewer");
    this.stage = find("stage");
    this.pairs = pairsOf(kinds);
    this.panes = [];
    this.center = null; // {x, y} in image pixels; null is the middle
    this.share = 0.5; // of the image on which a swipe shows the first kind
    this.shown = [kinds[1], kinds[kinds.length - 1]]; // now, and before, in flip
    if (kinds.length < 3) this.shown[1] = kinds[0];
    this.wheel = 0;
    this.drawControls();
    this.listen(closed);
  }

  // The buttons above the images.
  drawControls() {
    const group = (label, choices, name) => choiceOf(
      label, choices, (value) => this.update({ [name]: value }));
    this.viewChoice = group("View", VIEWS, "view");
    this.zoomChoice = group("Zoom", ZOOMS, "zoom");
    this.factorChoice = group("Brightness of the difference", FACTORS, "factor");
    this.flipChoice = choiceOf("Image", this.kinds.map((kind) => [kind, kindLabel(kind)]),
      (kind) => this.flipTo(kind));
    this.pairList = element("select", { autocomplete: "off",
      onchange: () => this.update({ pair: this.pairList.value }) },
    ...this.pairs.map(([value, text]) => element("option", { value }, text)));
    this.pairLabel = element("label", {}, element("span", { class: "muted" }, "of"), this.pairList);
    const labelled = (text, group) => element("span", { class: "toolbar labelled" },
      element("span", { class: "muted" }, text), group);
    this.factorLabel = labelled("Brightness", this.factorChoice);
    find("viewer-bar").append(this.viewChoice, this.pairLabel, this.flipChoice,
      this.factorLabel, labelled("Zoom", this.zoomChoice));
  }

  // Connects buttons, keys, pointer, wheel and sizes.
  listen(closed) {
    find("previous").addEventListener("click", () => this.go(-1));
    find("next").addEventListener("click", () => this.go(1));
    find("close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", closed);
    this.dialog.addEventListener("keydown", (event) => this.press(event));
    const range = find("swipe-range");
    range.addEventListener("input", () => this.swipeTo(Number(range.value) / 100));
    range.addEventListener("pointerup", () => this.dialog.focus()); // arrow keys go to rows again
    this.stage.addEventListener("pointerdown", (event) => this.startDrag(event));
    this.stage.addEventListener("wheel", (event) => this.turnWheel(event), { passive: false });
    new ResizeObserver(() => this.place()).observe(this.stage);
    window.addEventListener("resize", () => this.place()); // the ratio of pixels may have changed
  }

  // Shows a row. place: {rank, count} in the present order.
  show(row, { rank, count }) {
    const isNew = row !== this.row;
    this.row = row;
    find("viewer-name").textContent = row.name;
    find("viewer-place").textContent = `${formatCount(rank)} of ${formatCount(count)}`;
    find("viewer-metrics").replaceChildren(...this.metrics.map((metric) => element(
      "div", { "data-metric": metric.name }, element("dt", {}, metric.label),
      element("dd", { class: "number" },
        element("strong", {}, formatNumber(row.values[metric.name], metric.digits)), " ",
        element("span", { class: "muted" }, this.describe(row, metric))))));
    find("previous").disabled = rank <= 1;
    find("next").disabled = rank >= count;
    if (!this.dialog.open) {
      this.dialog.showModal();
      this.dialog.focus();
    }
    this.drawView(isNew);
  }

  // Loads a neighbour's images, so that they are there when it is opened.
  prepare(row) {
    for (const kind of row ? this.kinds : []) new Image().src = sourceOf(row, kind);
  }

  // The kinds in each pane of the present view.
  paneKinds() {
    if (this.state.view === "side") return this.kinds.map((kind) => [kind]);
    return [this.state.view === "flip" ? this.kinds : this.state.pair.split("-")];
  }

  // Draws the present view: its controls and its panes.
  drawView(isNewRow) {
    const { view, pair, zoom, factor } = this.state;
    pressChoice(this.viewChoice, view);
    pressChoice(this.zoomChoice, zoom);
    pressChoice(this.factorChoice, factor);
    this.pairList.value = pair;
    this.pairLabel.hidden = !["swipe", "difference"].includes(view) || this.pairs.length < 2;
    this.flipChoice.hidden = view !== "flip";
    this.factorLabel.hidden = view !== "difference";
    find("swipe").hidden = view !== "swipe";
    const drawn = `${view} ${this.paneKinds().join(" ")}`;
    if (this.drawn !== drawn) {
      this.drawn = drawn;
      this.panes = this.paneKinds().map((kinds) => this.createPane(kinds));
      this.stage.replaceChildren(...this.panes.map((pane) => pane.node));
      this.stage.className = `view-${view}`;
      this.setSources();
    } else if (isNewRow) this.setSources();
    for (const { box } of this.panes) {
      box.style.filter = view === "difference" ? `brightness(${factor})` : "";
    }
    this.showFlipped();
    this.drawFiles();
    this.place();
  }

  // A box with an image of each kind above the other.
  createPane(kinds) {
    const images = kinds.map((kind) => element("img", { alt: kindLabel(kind), draggable: "false",
      "data-kind": kind, onload: () => this.place(), onerror: () => this.place() }));
    const box = element("div", { class: "box" }, ...images);
    const caption = element("p", { class: "caption small" });
    return { kinds, images, box, caption, node: element("div", { class: "pane" }, caption, box) };
  }

  // Has the panes load the row's images.
  setSources() {
    for (const { images } of this.panes) {
      for (const image of images) image.src = sourceOf(this.row, image.dataset.kind);
    }
  }

  // Links to the files.
  drawFiles() {
    const endings = this.kinds.flatMap((kind) => ENDINGS[kind]);
    find("files").replaceChildren("Files: ", ...endings.flatMap((ending, index) => [
      index ? ", " : "",
      element("a", { href: `images/${this.row.link}${ending}`, target: "_blank" },
        `${this.row.name}${ending}`)]));
  }

  // The size of what a pane shows: that of its largest image.
  sizeOf(pane) {
    return {
      width: Math.max(1, ...pane.images.map((image) => image.naturalWidth)),
      height: Math.max(1, ...pane.images.map((image) => image.naturalHeight)),
    };
  }

  // Lays out the panes and puts the images where zoom and center say.
  place() {
    if (!this.dialog.open || !this.panes.length) return;
    const ratio = window.devicePixelRatio;
    const sizes = this.panes.map((pane) => this.sizeOf(pane));
    this.describePanes();
    const { isRow, scale } = fitPanes(sizes, { width: this.stage.clientWidth,
      height: this.stage.clientHeight, textHeight: this.panes[0].caption.offsetHeight });
    this.fitScale = scale * ratio;
    this.scale = pixelScale(this.state.zoom, this.fitScale);
    this.stage.style.flexDirection = isRow ? "row" : "column";
    this.panes.forEach((pane, index) => this.placePane(pane, sizes[index], isRow));
    this.panes.forEach((pane, index) => this.placeImages(pane, sizes[index]));
    this.showSwipe();
  }

  // Gives a pane what its images take, or its share of the stage where that is less.
  placePane({ node, box }, size, isRow) {
    const perPixel = this.scale / window.devicePixelRatio;
    const [width, height] = [size.width, size.height].map((side) => side * perPixel + SNAP_ROOM);
    node.style.flexBasis = isRow ? `${Math.max(MIN_PANE, width)}px` : "auto";
    box.style.width = `${width}px`;
    box.style.height = `${height}px`;
  }

  // Puts a pane's images on whole device pixels.
  placeImages(pane, size) {
    const perPixel = this.scale / window.devicePixelRatio; // CSS pixels per image pixel
    const rect = pane.box.getBoundingClientRect();
    const center = this.center || { x: size.width / 2, y: size.height / 2 };
    const [width, height] = [size.width * perPixel, size.height * perPixel];
    const left = snap(rect.left, offsetOf(rect.width, width, center.x * perPixel));
    const top = snap(rect.top, offsetOf(rect.height, height, center.y * perPixel));
    pane.left = left;
    pane.shownWidth = width;
    pane.canPan = width > rect.width + 1 || height > rect.height + 1;
    pane.box.classList.toggle("can-pan", pane.canPan);
    for (const image of pane.images) {
      image.style.left = `${left}px`;
      image.style.top = `${top}px`;
      image.style.width = `${image.naturalWidth * perPixel}px`;
      image.style.height = `${image.naturalHeight * perPixel}px`;
      image.classList.toggle("enlarged", Number.isInteger(this.scale));
    }
  }

  // What is shown, and its size, above each pane.
  describePanes() {
    const { view, factor } = this.state;
    for (const { kinds, images, caption } of this.panes) {
      const sizes = images.map(sizeText);
      const [one, other] = kinds.map(kindLabel);
      const both = sizes[0] === sizes[1] ? sizes[0] : sizes.join(" and ");
      caption.textContent = {
        side: `${one}, ${sizes[0]}`,
        swipe: `${one} | ${other}, ${both}`,
        flip: `${kindLabel(this.shown[0])}, ${sizes[kinds.indexOf(this.shown[0])]}`,
        difference: `|${one} − ${other}| × ${factor}, ${both}`,
      }[view];
    }
  }

  // ---- swipe and flip

  // Shows the first kind on this share of the image, from the left.
  swipeTo(share) {
    this.share = Math.max(0, Math.min(1, share));
    this.showSwipe();
  }

  // Clips the image above to what lies right of the slider.
  showSwipe() {
    if (this.state.view !== "swipe") return;
    const [{ images, kinds, box, left, shownWidth }] = this.panes;
    const percent = this.share * 100;
    const start = Math.max(0, left);
    const end = Math.min(box.clientWidth, left + shownWidth);
    const line = snap(box.getBoundingClientRect().left, start + (end - start) * this.share);
    images[1].style.clipPath = `inset(0 0 0 ${Math.max(0, line - left)}px)`;
    box.style.setProperty("--line-left", `${line}px`);
    const range = find("swipe-range");
    range.value = percent;
    const labels = kinds.map(kindLabel);
    range.setAttribute("aria-valuetext",
      `${Math.round(percent)}% ${labels[0]}, ${Math.round(100 - percent)}% ${labels[1]}`);
    [find("swipe-left").textContent, find("swipe-right").textContent] = labels;
  }

  // Shows a kind in place of the one before.
  flipTo(kind) {
    if (kind !== this.shown[0]) this.shown = [kind, this.shown[0]];
    if (this.state.view === "flip") {
      this.showFlipped();
      this.describePanes();
    } else this.update({ view: "flip" });
  }

  // Shows one image of the flip's pane.
  showFlipped() {
    if (this.state.view !== "flip") return;
    for (const image of this.panes[0].images) {
      image.classList.toggle("flipped-away", image.dataset.kind !== this.shown[0]);
    }
    pressChoice(this.flipChoice, this.shown[0]);
  }

  // ---- zoom and pan

  // Zooms in or out by a step and keeps the image's point at x, y where it is.
  zoomBy(direction, x, y) {
    const scales = ZOOMS.slice(1).map(([value]) => Number(value));
    const fit = pixelScale("fit", this.fitScale);
    const next = direction > 0 ? scales.find((scale) => scale > this.scale)
      : scales.reverse().find((scale) => scale < this.scale && scale > fit);
    if (next === undefined && direction > 0) return;
    const pane = this.paneAt(x, y);
    if (pane && next) this.keepPoint(pane, x, y, next);
    this.update({ zoom: next === undefined ? "fit" : String(next) });
  }

  // The pane under a point.
  paneAt(x, y) {
    return this.panes.find(({ node }) => {
      const rect = node.getBoundingClientRect();
      return x >= rect.left && x < rect.right && y >= rect.top && y < rect.bottom;
    });
  }

  // Chooses the center so that the image's point under x, y stays there at another scale.
  keepPoint({ box, images: [image] }, x, y, scale) {
    const ratio = window.devicePixelRatio;
    const [rect, shown] = [box.getBoundingClientRect(), image.getBoundingClientRect()];
    const keep = (at, start, length, shownStart) => (at - shownStart) * ratio / this.scale
      + (start + length / 2 - at) * ratio / scale;
    this.center = { x: keep(x, rect.left, rect.width, shown.left),
      y: keep(y, rect.top, rect.height, shown.top) };
  }

  // Moves the images by CSS pixels.
  panBy(x, y) {
    const pane = this.panes.find(({ canPan }) => canPan);
    if (!pane) return;
    const perPixel = this.scale / window.devicePixelRatio;
    const [size, rect] = [this.sizeOf(pane), pane.box.getBoundingClientRect()];
    const center = this.center || { x: size.width / 2, y: size.height / 2 };
    const move = (at, by, side) => { // no further than there is something to see
      const margin = Math.min(size[side], rect[side] / perPixel) / 2;
      const within = (value) => Math.max(margin, Math.min(size[side] - margin, value));
      return within(within(at) - by / perPixel);
    };
    this.center = { x: move(center.x, x, "width"), y: move(center.y, y, "height") };
    this.place();
  }

  // A wheel zooms; what it turns less than a step adds up.
  turnWheel(event) {
    event.preventDefault();
    this.wheel += event.deltaY;
    if (Math.abs(this.wheel) < WHEEL_STEP) return;
    const direction = this.wheel < 0 ? 1 : -1;
    this.wheel = 0;
    this.zoomBy(direction, event.clientX, event.clientY);
  }

  // Whether a pointer at x is to move the swipe's line: near it, or anywhere if there is no pan.
  isOnLine(x) {
    if (this.state.view !== "swipe") return false;
    const [{ box, canPan }] = this.panes;
    const line = box.getBoundingClientRect().left
      + parseFloat(box.style.getPropertyValue("--line-left"));
    return !canPan || Math.abs(x - line) < 24;
  }

  // Drags the swipe's line or the images.
  startDrag(event) {
    if (event.button !== 0 || !event.target.closest(".box")) return;
    const swipes = this.isOnLine(event.clientX);
    let last = event;
    const move = (next) => {
      if (swipes) this.swipeTo(this.shareAt(next.clientX));
      else this.panBy(next.clientX - last.clientX, next.clientY - last.clientY);
      last = next;
    };
    const end = () => {
      for (const name of ["pointermove", "pointerup", "pointercancel"]) {
        this.stage.removeEventListener(name, name === "pointermove" ? move : end);
      }
    };
    this.stage.setPointerCapture(event.pointerId);
    this.stage.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) this.stage.addEventListener(name, end);
    if (swipes) move(event);
  }

  // The share of the swiped image that lies left of x.
  shareAt(x) {
    const [{ box, left, shownWidth }] = this.panes;
    const rect = box.getBoundingClientRect();
    const [start, end] = [Math.max(0, left), Math.min(rect.width, left + shownWidth)];
    return (x - rect.left - start) / (end - start);
  }

  // ---- keys

  // What a key does here. Lists and the slider keep the keys that they use.
  press(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target.matches("select")) return;
    if (event.key in MOVES) {
      if (event.target.matches("input")) return;
      this.pressArrow(event);
    } else if (event.key === " ") {
      // a button that is not pressed yet is pressed by it
      if (event.target.matches("button:not([aria-pressed=true])")) return;
      this.flipTo(this.shown[this.state.view === "flip" ? 1 : 0]);
    } else if (event.key in VIEW_KEYS) this.update({ view: VIEW_KEYS[event.key] });
    else if (this.kinds[Number(event.key) - 1]) this.flipTo(this.kinds[Number(event.key) - 1]);
    else if (!this.pressZoom(event.key)) return;
    event.preventDefault();
  }

  // Another row, or with Shift another part of the image.
  pressArrow({ key, shiftKey }) {
    const by = MOVES[key] * PAN_STEP;
    if (!shiftKey) this.go(MOVES[key]);
    else if (key === "ArrowLeft" || key === "ArrowRight") this.panBy(-by, 0);
    else this.panBy(0, -by);
  }

  // Zooms by a key; returns whether it is one of these.
  pressZoom(key) {
    const direction = { "+": 1, "=": 1, "-": -1 }[key];
    if (key === "0") this.update({ zoom: "fit" });
    else if (direction) {
      const rect = this.panes[0].box.getBoundingClientRect();
      this.zoomBy(direction, rect.left + rect.width / 2, rect.top + rect.height / 2);
    }
    return key === "0" || direction !== undefined;
  }
}

// "256 × 256" of a loaded image.
function sizeText(image) {
  if (image.naturalWidth) return `${image.naturalWidth} × ${image.naturalHeight}`;
  return image.complete ? "(no such file)" : "…";
}
