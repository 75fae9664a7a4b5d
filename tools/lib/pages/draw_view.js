// What the drawing page shows of its state: words, tools, drawing, result, their places.

const WORKING_PAUSE = 400; // milliseconds of work until it is said
const GAP = 16; // between the panes, in CSS pixels
const LEAST_HEIGHT = 240; // of a pane, in CSS pixels
const COLUMN_GAIN = 0.75; // of the scale: panes are stacked where side by side they were smaller
const LEAST_RESULT = 240; // width of the result's text, beside the drawing that it lies over
const SLIDER_HEIGHT = 42; // in CSS pixels
const PHONE_SHARE = 0.4; // of the window's height for each pane, to choose how they are placed
const PHONE_MOST = 0.7; // of the window's height for a pane that is as wide as the window
const KIND_NAMES = { palette: "Labels", brush: "Sketch", image: "Photo" };
const HINTS = { // of tools without a brush
  photo: "Open, drop or paste an image. Drag it to choose the part that is used.",
  file: "Open, drop or paste a file. It is sent as it is.",
};
const NO_EXAMPLES = "this model's examples are not stored with it.";

// Says something once, until the next message.
function tell(text) {
  find("message").textContent = text;
}

// Says something to screen readers.
function speak(text) {
  find("spoken").textContent = text;
}

// The state as [its kind, words].
function stateWords() {
  const { models, model, trouble } = state;
  if (loop.isGone) {
    return ["gone", "The server does not answer. Keep drawing; the page keeps trying."];
  }
  if (trouble) return ["error", trouble];
  if (!models) return ["loading", "Looking for models…"];
  if (!models.length || !model) {
    return ["loading", "There is no model yet. It appears here once the server has one."];
  }
  if (model.state !== "AVAILABLE") return ["loading", `${model.name} is being loaded…`];
  if (loop.error) return ["error", loop.error];
  if (loop.waiting) return ["busy", "The server is busy. Trying again in a moment…"];
  if (loop.isBusy) return ["working", "Working…"];
  if (loop.isLive && loop.isStale) return ["working", pad.stroke ? "Drawing…" : "Working…"];
  if (!state.file && !isDrawn(model.inputs)) return ["ready", "Ready: open a file."];
  if (loop.isStale && !isBlank()) {
    return ["stale", state.result ? "The result is older than the drawing: press Run."
      : "Press Run for the result."];
  }
  if (!state.result) {
    return ["ready", `Ready: ${state.kind === "image" ? "open an image" : "draw"}.`];
  }
  return ["done", "Up to date"];
}

// Shows the state: work only once it takes a while, so that the words do not flicker.
function showState() {
  const [kind, words] = stateWords();
  const node = find("state");
  find("result").setAttribute("aria-busy", String(kind === "working"));
  find("run").disabled = kind === "gone" || !state.model || state.model.state !== "AVAILABLE";
  const show = () => {
    wordsTimer = null;
    const [now, text] = stateWords();
    node.dataset.state = now;
    if (node.textContent !== text) node.textContent = text;
  };
  if (kind !== "working") {
    clearTimeout(wordsTimer);
    show();
  } else if (!wordsTimer && words !== node.textContent) {
    wordsTimer = setTimeout(show, WORKING_PAUSE);
  }
}

// Shows the names of the models.
function drawModels() {
  find("model").replaceChildren(...state.models.map(
    ({ name }) => element("option", { value: name }, name)));
  find("model-choice").hidden = !state.models.length;
  if (state.model) find("model").value = state.model.name;
}

// Offers the kinds of tools for a model's inputs.
function drawKinds(inputs) {
  const kinds = kindsOf(inputs);
  find("kinds").hidden = kinds.length < 2;
  find("kinds").replaceChildren(choiceOf("Draw with", kinds.map((kind) => [
    kind, kind === "image" && inputs.kind !== "images" ? "File" : KIND_NAMES[kind]]), chooseKind));
}

// What to draw, where no example shows it.
function drawingHint({ background, ink }, kind) {
  if (kind === "palette") return `Paint with these labels; ${NO_EXAMPLES}`;
  const isLight = (color) => greyOf(packColor(color)) > 127;
  return `Draw ${isLight(ink || [0, 0, 0]) ? "light" : "dark"} shapes on `
    + `${isLight(background || [255, 255, 255]) ? "white" : "black"}; ${NO_EXAMPLES}`;
}

// Shows the tools that there are for the model, and which are chosen.
function showTools() {
  const { model, kind, mode, sizes, photo, color } = state;
  const { inputs } = model;
  pressChoice(find("kinds"), kind);
  find("modes").hidden = kind === "image";
  pressChoice(find("modes"), mode);
  const size = sizes[mode] || sizes.brush;
  find("size-choice").hidden = kind === "image";
  find("size").disabled = !sizes[mode]; // it stays, so that nothing below it moves
  find("size").value = size;
  find("size-text").textContent = `${size} px`;
  find("ink-choice").hidden = kind !== "brush" || inputs.kind !== "images";
  find("ink").value = `#${state.ink.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
  find("palette").hidden = kind !== "palette";
  if (kind === "palette") drawPalette(inputs.palette, color);
  find("zoom-choice").hidden = kind !== "image" || !photo;
  find("zoom").value = photo ? photo.place.zoom : 1;
  find("hint").hidden = kind !== "image" && model.examples > 0;
  find("hint").textContent = kind !== "image" ? drawingHint(inputs, kind)
    : inputs.kind === "images" ? HINTS.photo : HINTS.file;
  find("drawing-title").textContent = kind === "image" ? "Input" : "Drawing";
  find("camera-open").hidden = inputs.kind !== "images";
  find("canvas").className = { null: "idle", move: "move" }[currentTool(false).name] || "";
}

// Shows the labels, of which one is chosen.
function drawPalette(palette, chosen) {
  const box = find("palette");
  const key = JSON.stringify(palette);
  if (box.dataset.key !== key) {
    box.dataset.key = key;
    box.replaceChildren(...palette.map(({ name, color }, place) => {
      const swatch = element("span", { class: "swatch" });
      swatch.style.backgroundColor = `rgb(${color.join(" ")})`;
      return element("label", {}, element("input", { type: "radio", name: "label", value: place,
        autocomplete: "off", onchange: () => chooseColor(place) }), swatch,
      element("span", { class: "name" }, name),
      ...(place < 10 ? [element("kbd", { "aria-hidden": "true" }, String((place + 1) % 10))] : []));
    }));
  }
  box.querySelectorAll("input")[chosen].checked = true;
}

// Shows the examples.
function drawGallery() {
  const { model } = state;
  find("examples").hidden = !model.examples;
  find("random").hidden = model.examples < 2;
  find("gallery").replaceChildren(...Array.from({ length: model.examples }, (_, number) => element(
    "button", { type: "button", onclick: () => openExample(number) },
    element("img", { alt: `Example ${number + 1}`, draggable: "false",
      src: `v1/models/${addressOf(model)}/examples/${number}?show=input` }))));
}

// Shows what is drawn: pixels or a file.
function showInput() {
  const { inputs } = state.model;
  const { file } = state;
  const isEmpty = !file && !isDrawn(inputs);
  find("canvas").hidden = Boolean(file) || isEmpty;
  if (isBlank()) dropResult();
  find("empty").hidden = !isEmpty && (!isBlank() || state.model.examples > 0);
  find("empty-text").textContent = !isEmpty && state.kind !== "image" ? "Draw here"
    : "Open an image or drop it here";
  if (file) showFile(file);
  else find("file-view").hidden = true;
  if (file) pad.drawCursor(null);
  find("readout").textContent = file ? `${file.name}, sent as it is` : "";
  find("canvas").setAttribute("aria-label", `Drawing for ${state.model.name}, `
    + `${state.pixels.width} by ${state.pixels.height} pixels`);
  find("undo").disabled = !undo.past.length;
  find("redo").disabled = !undo.future.length;
  find("share").disabled = Boolean(file) || isEmpty;
  find("save-input").disabled = isEmpty;
  drawParts(inputs.count);
  showTools();
  fit();
  keepSoon();
}

// Shows a file as the server shows it.
async function showFile(file) {
  const view = find("file-view");
  if (!file.address) {
    try {
      const response = await fetch(`${addressOf(state.model)}?show=input`, { method: "POST",
        body: file.blob,
        headers: { "Content-Type": file.blob.type || "application/octet-stream" } });
      if (!response.ok) return; // the result's request says why
      file.address = URL.createObjectURL(await response.blob());
    } catch {
      lose();
      return;
    }
  }
  if (state.file !== file) return;
  view.src = file.address;
  view.alt = file.name;
  view.hidden = false;
}

// Names the images that lie side by side.
function drawParts(count) {
  find("parts").replaceChildren(...(count > 1 ? Array.from({ length: count },
    (_, part) => element("span", {}, `Input ${part + 1}`)) : []));
}

// Shows the result, its step and how long it took.
function showResult() {
  const { result, model, view } = state;
  const { outputs, step } = model;
  for (const image of [find("output"), find("over")]) {
    image.classList.toggle("exact", outputs.kind === "labels");
    if (result) image.src = result.address;
    else image.removeAttribute("src");
  }
  find("output").hidden = !result;
  find("output").alt = `What ${model.name} makes of the drawing`;
  find("over").hidden = find("grip").hidden = !result || view !== "over";
  find("waiting").hidden = Boolean(result);
  find("step").textContent = step === null ? "" : `step ${formatCount(step)}`;
  find("timing").replaceChildren(...(result ? timingTexts(result) : []));
  find("save-shown").disabled = !result;
  find("save-own").disabled = !result;
  find("save-own").hidden = isShownAsIs(outputs);
  find("save-own").textContent = `Download ${outputs.kind === "labels" ? "labels" : "values"}`;
  find("legend").hidden = !outputs.legend;
  find("legend").replaceChildren(...(outputs.legend || []).map(({ name, color }) => {
    const swatch = element("dt", { "aria-hidden": "true" });
    swatch.style.backgroundColor = `rgb(${color.join(" ")})`;
    return element("div", {}, swatch, element("dd", {}, name));
  }));
}

// "step 4,000, 92 ms (model 85 ms)"; where there is little room without the model's part.
function timingTexts({ step, milliseconds, networkMilliseconds }) {
  const start = step === null ? "" : `step ${formatCount(step)}, `;
  const network = networkMilliseconds === null ? ""
    : ` (model ${Math.round(networkMilliseconds)} ms)`;
  return [`${start}${Math.round(milliseconds)} ms`, element("span", { class: "network" }, network)];
}

// Shows where the pointer is, and on which label.
function showPoint(point, isKey, what = null) {
  if (state.file || !state.pixels) return;
  let text = "";
  if (point) {
    const { palette } = state.model.inputs;
    const packed = state.pixels.colorAt(point.x, point.y);
    const isNamed = palette && state.kind === "palette";
    const name = isNamed ? palette[nearestIn(palette)(packed)].name : "";
    text = `${point.x}, ${point.y}${name ? ` ${name}` : ""}`;
  }
  find("readout").textContent = text;
  if (isKey) speak(what ? `${what}: ${text}` : text);
}

// Chooses whether the result lies beside the drawing or over it.
function chooseView(view) {
  state.view = view;
  pressChoice(find("views"), view);
  find("panes").classList.toggle("over", view === "over");
  find("reveal-choice").hidden = view !== "over";
  find("over").hidden = find("grip").hidden = !state.result || view !== "over";
  revealResult();
  fit();
}

// Shows the result right of where the slider is.
function revealResult() {
  find("panes").style.setProperty("--reveal", `${find("reveal").value}%`);
}

// Moves the line between drawing and result with the pointer that holds its grip.
function dragGrip(event) {
  if (!find("grip").hasPointerCapture(event.pointerId)) return;
  const { left, width } = find("over").getBoundingClientRect();
  find("reveal").value = (event.clientX - left) / width * 100;
  revealResult();
}

// The largest scale at which panes fit: of whole device pixels, where that loses little.
function wholeScale(scale) {
  const ratio = window.devicePixelRatio;
  const whole = Math.floor(scale * ratio + 1e-6) / ratio;
  return whole && whole >= scale * 0.85 ? whole : scale;
}

// Gives drawing and result the largest size at which both are seen.
function fit() {
  if (!state.model || find("main").hidden) return;
  const panes = find("panes");
  const { width: each, height, count } = state.model.inputs;
  const width = each * count;
  const room = panes.clientWidth;
  const isPhone = matchMedia("(max-width: 56rem)").matches;
  const rest = panes.getBoundingClientRect().top + window.scrollY + 90
    + (state.model.examples ? 130 : 20);
  const tall = Math.max(LEAST_HEIGHT, window.innerHeight - rest);
  const half = Math.max(LEAST_HEIGHT, window.innerHeight * PHONE_SHARE);
  const isOver = state.view === "over";
  const across = Math.min((room - GAP) / (width + each), (isPhone ? half : tall) / height);
  const down = Math.min(room / width, half / height);
  const alone = Math.min((room - GAP - LEAST_RESULT) / width, (tall - SLIDER_HEIGHT) / height);
  const isColumn = !isOver && across < down * COLUMN_GAIN;
  const most = Math.min(room / width, window.innerHeight * PHONE_MOST / height);
  const scale = isPhone && (isOver || isColumn) ? most
    : wholeScale(isOver ? alone : isColumn ? down : across);
  panes.classList.toggle("column", isColumn);
  panes.classList.toggle("pixelated", Number.isInteger(scale * window.devicePixelRatio));
  for (const [name, value] of [["input-width", `${width * scale}px`],
    ["output-width", `${each * scale}px`], ["pane-height", `${height * scale}px`],
    ["parts", count]]) panes.style.setProperty(`--${name}`, value);
}
