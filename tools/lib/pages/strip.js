"use strict";
// The film strip: the same images after every so many steps, all at the step of one slider, or one
// of them at all steps.

const PLAY_PAUSE = 400; // milliseconds between two steps while playing
const VIEWER_FRAME = 180; // pixels of the window's height that enlarged images leave free
const KINDS = ["input", "output", "target"];

// The file of a sample's image. link: its name, percent-encoded.
function sampleSource(samples, link, kind, step) {
  const name = kind === "output" ? `${String(step).padStart(8, "0")}-${link}` : link;
  return `${samples.folder}/${name}-${kind}s.png`;
}

// Shows an image in a box once it has been decoded, so that nothing flickers. alt: what it shows.
async function showImage(box, source, alt) {
  if (box.dataset.source === source) return;
  box.dataset.source = source;
  const image = element("img", { src: source, alt });
  const loaded = await image.decode().then(() => true, () => false);
  if (box.dataset.source !== source) return; // the slider has moved on
  if (!loaded) delete box.dataset.source; // it is looked for again at the next refresh
  box.replaceChildren(loaded ? image : element("span", { class: "muted small" }, "no image"));
  markEnlarged(image);
}

// Shows the pixels of an image as they are where it is enlarged.
function markEnlarged(image) {
  image.classList.toggle("enlarged",
    image.clientWidth * devicePixelRatio > image.naturalWidth * 1.01);
}

class Strip {
  // view: of the charts; changed(): called when the step or what is shown has changed
  constructor(view, changed) {
    Object.assign(this, { view, changed, samples: null, index: -1, following: true, shape: "" });
    this.film = false; // one sample at all steps, otherwise all samples at one
    this.sample = 0; // the one of the film
    this.timer = null;
    this.made = new Map(); // frames of the film, by their image
    this.heading = element("h2");
    this.about = element("p", { class: "muted small" });
    this.createControls();
    this.body = element("div");
    this.viewer = new Viewer(this);
    this.element = element("section", { class: "card strip", "aria-label": "Film strip" },
      element("div", { class: "toolbar strip-head" }, this.heading, this.views),
      this.about, this.controls, this.select, this.body, this.viewer.element);
    new ResizeObserver(() => this.body.querySelectorAll("img").forEach(markEnlarged))
      .observe(this.body);
  }

  createControls() {
    const button = (text, label, act) =>
      element("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
    this.slider = element("input", {
      type: "range", min: 0, step: 1, autocomplete: "off", "aria-label": "Step of the images",
      oninput: () => this.show(Number(this.slider.value)) });
    this.number = element("input", {
      type: "number", autocomplete: "off", min: 0, "aria-label": "Step of the images, as a number",
      onchange: () => this.chooseTyped() });
    this.play = element("button", { type: "button", "data-role": "play",
                                     onclick: () => this.togglePlay() }, "Play");
    this.best = button("★ best", "Images of the best step",
      () => this.choose(this.view.best.step));
    this.missing = element("span", { class: "muted", role: "status" });
    this.views = choiceOf("View", [["step", "One step"], ["film", "All steps"]],
      (value) => this.setFilm(value === "film"));
    this.select = element("select", { autocomplete: "off", "aria-label": "Image of the film",
      onchange: () => this.setFilm(true, Number(this.select.value)) });
    this.controls = element("div", { class: "toolbar strip-controls" },
      element("div", { class: "slider" },
        button("◀", "Previous step", () => this.move(-1)), this.slider,
        button("▶", "Next step", () => this.move(1))),
      element("label", {}, "step ", this.number), this.play, this.best, this.missing);
  }

  // Takes new samples; follows the newest step if it was shown, but not while an image is enlarged.
  update(run) {
    const { samples } = run;
    const { following } = this;
    const stays = !following || this.viewer.element.open;
    const wanted = this.samples && stays ? this.step() : this.wanted;
    this.samples = samples;
    this.element.hidden = samples.names.length === 0 || samples.steps.length === 0;
    if (this.element.hidden) return;
    this.heading.textContent = samples.about === "validation" ? "Validation images"
      : "Training images";
    this.about.textContent = (samples.about === "validation"
      ? "The network does not learn from these. " : "The network learns from these. ") +
      `${plural(samples.names.length, "image")}, each at ${plural(samples.steps.length, "step")}.`;
    this.slider.max = samples.steps.length - 1;
    this.best.hidden = !this.view.best;
    this.createShape();
    const last = samples.steps.length - 1;
    this.show(wanted === undefined ? last : nearestIndex(samples.steps, wanted));
    if (this.viewer.element.open) this.following = following;
  }

  // Makes the boxes for the images, if others are needed than there are.
  createShape() {
    const { names, steps } = this.samples;
    const shape = JSON.stringify([this.film, this.film ? this.sample : 0, names,
                                  this.film ? steps : 0]);
    if (shape === this.shape) return;
    this.shape = shape;
    this.select.replaceChildren(...names.map((name, index) =>
      element("option", { value: index }, name)));
    this.sample = Math.min(this.sample, names.length - 1);
    this.select.value = this.sample;
    this.select.hidden = !this.film || names.length < 2;
    pressChoice(this.views, this.film ? "film" : "step");
    const scrolled = this.body.querySelector(".outputs")?.scrollTop || 0;
    this.body.replaceChildren(this.film ? this.createFilm() : this.createSamples());
    if (this.film) this.body.querySelector(".outputs").scrollTop = scrolled;
  }

  // A figure per sample: input, output and target.
  createSamples() {
    this.boxes = this.samples.names.map((name, index) => KINDS.map((kind) =>
      element("button", { type: "button", class: "image",
                          onclick: () => this.viewer.open(index) })));
    return element("div", { class: "samples" }, ...this.samples.names.map((name, index) =>
      element("figure", { class: "sample" }, element("figcaption", { title: name }, name),
        ...this.boxes[index].map((box, kind) =>
          element("div", {}, box, element("span", { class: "muted small" }, KINDS[kind]))))));
  }

  // The frames of one sample: input, target, and its output at each step.
  createFilm() {
    const { names, steps } = this.samples;
    const enlarge = () => this.viewer.open(this.sample);
    const best = this.bestIndex();
    this.frames = steps.map((step, index) => this.frame("output", step,
      formatCount(step) + (index === best ? " ★" : ""), () => this.choose(step)));
    return element("div", {},
      element("div", { class: "film" }, this.frame("input", null, "input", enlarge),
        this.frame("target", null, "target", enlarge)),
      element("div", { class: "film outputs", role: "group",
                       "aria-label": `${names[this.sample]} at all steps` }, ...this.frames));
  }

  // A frame of the film: the one that was made earlier, so that it does not flicker, or a new one.
  frame(kind, step, caption, act) {
    const source = sampleSource(this.samples, this.samples.links[this.sample], kind, step);
    if (!this.made.has(source)) {
      this.made.set(source, element("button", { type: "button", class: "frame", onclick: act },
        element("img", { loading: "lazy", alt: kind === "output" ? "output at step" : "",
                         src: source }),
        element("span", { class: "small" })));
    }
    this.made.get(source).lastChild.textContent = caption;
    return this.made.get(source);
  }

  // The index of the saved step that is nearest to the best one, -1 if there is none.
  bestIndex() {
    return this.view.best ? nearestIndex(this.samples.steps, this.view.best.step) : -1;
  }

  // The step that is shown, null if none.
  step() {
    return this.index < 0 ? null : this.samples.steps[this.index];
  }

  // Shows the saved step that is nearest to a step.
  choose(step) {
    if (this.samples && this.samples.steps.length && Number.isFinite(step)) {
      this.show(nearestIndex(this.samples.steps, step));
    }
  }

  // Shows the saved step nearest to the one that was typed, and says so where it is another.
  chooseTyped() {
    const typed = this.number.value === "" ? this.step() : Number(this.number.value);
    this.choose(typed);
    this.number.value = this.step();
    this.missing.textContent = typed === this.step() ? ""
      : `no images at step ${formatCount(typed)}, step ${formatCount(this.step())} is shown`;
  }

  // Goes so many saved steps on or back.
  move(count) {
    if (!this.element.hidden) this.show(this.index + count);
  }

  // Shows a saved step, by its index, and returns when all images are there.
  show(index) {
    const { steps } = this.samples;
    this.index = Math.max(0, Math.min(steps.length - 1, index));
    this.following = this.index === steps.length - 1;
    const step = this.step();
    if (step !== this.view.chosen) this.missing.textContent = "";
    this.slider.value = this.index;
    this.slider.setAttribute("aria-valuetext", this.spokenStep());
    if (document.activeElement !== this.number) this.number.value = step; // it is being typed
    this.view.chosen = step;
    this.changed();
    this.viewer.update();
    return this.film ? this.showFrame() : this.showSamples();
  }

  // The step that is shown, in words.
  spokenStep() {
    const step = this.step();
    if (this.index !== this.bestIndex()) return `step ${step}`;
    return `step ${step}, ${step === this.view.best.step ? "the best" : "near the best"}`;
  }

  // Shows the images of all samples at the step, and returns when they are there.
  showSamples() {
    const { names, links } = this.samples;
    const step = this.step();
    const star = this.index === this.bestIndex() ? " ★" : "";
    return Promise.all(names.map((name, row) => Promise.all(this.boxes[row].map((box, column) => {
      const kind = KINDS[column];
      const [caption, spoken] = kind === "output"
        ? [`output, step ${formatCount(step)}${star}`, `output, ${this.spokenStep()}`]
        : [kind, kind];
      box.setAttribute("aria-label", `Enlarge ${name}: ${spoken}`);
      box.nextSibling.textContent = caption;
      return showImage(box, sampleSource(this.samples, links[row], kind, step), "");
    }))));
  }

  // Marks the frame of the step and scrolls the film to it.
  showFrame() {
    this.frames.forEach((frame, index) =>
      frame.setAttribute("aria-current", String(index === this.index)));
    const frame = this.frames[this.index];
    const film = this.body.querySelector(".outputs");
    const [top, bottom] = [frame.offsetTop, frame.offsetTop + frame.offsetHeight];
    if (top < film.scrollTop) film.scrollTop = top;
    if (bottom > film.scrollTop + film.clientHeight) film.scrollTop = bottom - film.clientHeight;
    return Promise.resolve();
  }

  // Shows all steps of one sample, or all samples at one step.
  setFilm(film, sample = this.sample) {
    Object.assign(this, { film, sample });
    if (!this.samples || this.element.hidden) return;
    this.createShape();
    this.show(this.index);
  }

  // Plays the steps from the one shown to the newest, from the first if that is shown.
  togglePlay() {
    const playing = this.timer !== null;
    clearTimeout(this.timer);
    this.timer = null;
    if (!playing && this.index === this.samples.steps.length - 1) this.show(0);
    if (!playing) this.timer = setTimeout(() => this.playOn(), PLAY_PAUSE);
    this.play.textContent = playing ? "Play" : "Pause";
  }

  // Shows the next step while playing, and the one after when its images are there.
  async playOn() {
    const timer = this.timer;
    await this.show(this.index + 1);
    if (this.timer !== timer) return;
    if (this.index === this.samples.steps.length - 1) this.togglePlay();
    else this.timer = setTimeout(() => this.playOn(), PLAY_PAUSE);
  }
}

// One sample as large as the window allows, at the step of the slider.
class Viewer {
  constructor(strip) {
    this.strip = strip;
    this.title = element("h2");
    this.boxes = KINDS.map(() => element("div", { class: "image" }));
    this.figures = KINDS.map((kind, index) => element("figure", {}, this.boxes[index],
      element("figcaption", { class: "muted small" }, kind)));
    this.toggles = KINDS.map((kind, index) => element("button", {
      type: "button", "aria-pressed": "true", onclick: () => this.toggle(index) }, kind));
    const key = (text) => element("kbd", {}, text);
    const button = (text, label, act) => element("button", {
      type: "button", "aria-label": label, title: label, onclick: act }, text);
    this.element = element("dialog", { class: "viewer", "aria-label": "Enlarged images" },
      element("div", { class: "toolbar" }, this.title,
        element("div", { class: "choice", role: "group", "aria-label": "Images shown" },
          ...this.toggles),
        button("◀", "Previous step", () => strip.move(-1)),
        button("▶", "Next step", () => strip.move(1)),
        button("▲", "Previous image", () => this.move(-1)),
        button("▼", "Next image", () => this.move(1)),
        element("button", { type: "button", onclick: () => this.element.close() }, "Close")),
      element("div", { class: "large" }, ...this.figures),
      element("p", { class: "muted small hint" }, key("←"), " ", key("→"), " step, ", key("↑"), " ",
        key("↓"), " image, ", key("?"), " all keys"));
    new ResizeObserver(() => this.fit()).observe(this.element);
  }

  // Opens on a sample. The film, too, will be of the one that was seen last.
  open(sample) {
    this.strip.setFilm(this.strip.film, sample);
    if (!this.element.open) this.element.showModal();
    this.update();
  }

  // Goes so many samples on or back.
  move(count) {
    const sample = this.strip.sample + count;
    if (sample >= 0 && sample < this.strip.samples.names.length) this.open(sample);
  }

  // Shows or hides the input, output or target; the others then have more room. One stays.
  toggle(index) {
    const shown = this.figures.filter((figure) => !figure.hidden);
    if (shown.length === 1 && shown[0] === this.figures[index]) return;
    this.figures[index].hidden = !this.figures[index].hidden;
    this.toggles[index].setAttribute("aria-pressed", !this.figures[index].hidden);
    this.fit();
  }

  // Shows the sample at the step of the slider, if it is open.
  update() {
    if (!this.element.open) return;
    const { samples } = this.strip;
    const step = this.strip.step();
    this.title.textContent = `${samples.names[this.strip.sample]}, step ${formatCount(step)}`;
    KINDS.forEach((kind, index) => {
      const source = sampleSource(samples, samples.links[this.strip.sample], kind, step);
      showImage(this.boxes[index], source, kind).then(() => this.fit());
    });
  }

  // Makes the images as large as they fit: from twice their size on, by a whole number of screen
  // pixels for each of their own.
  fit() {
    if (!this.element.open) return;
    for (const image of this.element.querySelectorAll("img")) {
      const room = Math.min(image.parentNode.clientWidth / image.naturalWidth,
        (innerHeight - VIEWER_FRAME) / image.naturalHeight) * devicePixelRatio;
      const factor = room >= 2 ? Math.floor(room) : room;
      image.style.width = `${factor * image.naturalWidth / devicePixelRatio}px`;
      image.classList.toggle("enlarged", factor >= 2);
    }
  }
}
