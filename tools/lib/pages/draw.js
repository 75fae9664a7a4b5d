// The drawing page: which model, which tool, what is drawn, what comes of it.

const POLL_PAUSE = 3000; // milliseconds between two looks at the server's models
const WORKING_PAUSE = 400; // milliseconds of work until it is said
const UNDO_BYTES = 1 << 26; // of all changes that can be undone
const ERASER_SIZE = 15; // pixels
const LARGEST_SIZE = 64; // of a brush, in pixels
const GAP = 16; // between the panes, in CSS pixels
const LEAST_HEIGHT = 240; // of a pane, in CSS pixels
const COLUMN_GAIN = 0.75; // of the scale: panes are stacked where side by side they were smaller
const LEAST_RESULT = 240; // width of the result's text, beside the drawing that it lies over
const SLIDER_HEIGHT = 42; // in CSS pixels
const PHONE_SHARE = 0.4; // of the window's height for each pane, where they are stacked
const KIND_NAMES = { palette: "Labels", brush: "Sketch", image: "Photo" };
const HINTS = { // of tools without a brush
  photo: "Open, drop or paste an image. Drag it to choose the part that is used.",
  file: "Open, drop or paste a file. It is sent as it is.",
};
const MODES = [["brush", "Brush"], ["eraser", "Eraser"], ["rectangle", "Rectangle"],
  ["fill", "Fill"]];
const MODE_KEYS = { b: "brush", e: "eraser", r: "rectangle", f: "fill" };
const WHAT = { brush: "stroke", eraser: "eraser", rectangle: "rectangle", fill: "fill" };

const state = {
  models: null, // as the server lists them; null until it has
  model: null, // the chosen one
  kind: null, // of tool: palette, brush, image
  mode: "brush", // of MODES
  color: 0, // place in the palette
  ink: [0, 0, 0], // of the brush without a palette
  sizes: { brush: 1, eraser: ERASER_SIZE },
  pixels: null, // what is drawn
  file: null, // {blob, name}: a file that is sent as it is, instead of the pixels
  photo: null, // {source, place}: what the pixels show a part of
  result: null, // the last answer of the loop, with its address for images
  view: "beside",
  trouble: null, // why there are no models, in the server's words
};
const kept = new Map(); // name of a model -> what was drawn for it
const undo = new UndoHistory(UNDO_BYTES);
let pad = null;
let loop = null;
let camera = null;
let wordsTimer = null;
let lastExample = -1;
let opening = 0; // the number of the image that is being opened: a later one replaces it

// ---- the model and its tools

// The address of a model on this server, as part of a relative one.
function addressOf(model) {
  return encodeURIComponent(model.name);
}

// The size of a model's canvas.
function canvasSize({ count, width, height }) {
  return { width: count * width, height };
}

// Whether inputs of a model can be drawn; otherwise they are files.
function isDrawn(inputs) {
  return inputs.kind !== "values" && inputs.file !== "npy";
}

// The kinds of tools for a model's inputs.
function kindsOf(inputs) {
  if (!isDrawn(inputs)) return ["image"];
  const kinds = inputs.palette ? ["palette"] : [];
  return inputs.kind === "labels" ? [...kinds, "image"] : [...kinds, "brush", "image"];
}

// The colour that clears a drawing, and that the eraser draws.
function backgroundOf(inputs) {
  if (inputs.kind === "labels") {
    const colors = inputs.palette.map(({ color }) => packColor(color));
    const background = packColor(inputs.background || inputs.palette[0].color);
    return colors.includes(background) ? background : colors[0];
  }
  return packColor(inputs.background || [255, 255, 255]);
}

// What the next stroke is drawn with. isEraser: whether a pen is turned round.
function currentTool(isEraser) {
  const { model, kind, mode, file, photo, sizes } = state;
  if (!model || file || !isDrawn(model.inputs)) return { name: null };
  if (kind === "image") return { name: photo ? "move" : null };
  const name = isEraser ? "eraser" : mode;
  const color = name === "eraser" ? backgroundOf(model.inputs)
    : packColor(kind === "palette" ? model.inputs.palette[state.color].color : state.ink);
  const groupOf = model.inputs.palette ? nearestIn(model.inputs.palette) : (packed) => packed;
  return { name, color, groupOf, size: sizes[name] || 1 };
}

// Chooses a model; what is drawn stays where it suits.
async function chooseModel(model, isOpening = true) {
  const before = state.model;
  if (before && state.pixels) {
    kept.set(before.name, { pixels: state.pixels, file: state.file, photo: state.photo });
  }
  state.model = model;
  find("model").value = model.name;
  const { inputs } = model;
  Object.assign(state, { color: 0, ink: inputs.ink || [0, 0, 0], result: null });
  state.sizes = { eraser: ERASER_SIZE, brush: inputs.tool === "palette"
    ? Math.max(4, Math.round(inputs.width / 32)) : inputs.line_width || 1 };
  if (inputs.palette && inputs.palette.length > 1 && packColor(inputs.palette[0].color)
    === backgroundOf(inputs)) state.color = 1;
  drawKinds(inputs);
  chooseKind(kindsOf(inputs).includes(inputs.tool) ? inputs.tool : kindsOf(inputs)[0]);
  drawGallery();
  showResult();
  if (isOpening) await openInput(before);
}

// Opens what a newly chosen model begins with: the drawing so far, its own last one, an example.
async function openInput(before) {
  const { inputs } = state.model;
  const size = canvasSize(inputs);
  if (before && takesSame(before.inputs, inputs) && state.pixels) {
    const isSame = state.pixels.width === size.width && state.pixels.height === size.height;
    startInput({ pixels: isSame ? state.pixels : coverPixels(state.pixels, size.width, size.height,
      {}, inputs.kind === "images" && inputs.tool === "image"), file: state.file });
    return;
  }
  const own = kept.get(state.model.name);
  if (own && own.pixels.width === size.width && own.pixels.height === size.height) {
    startInput(own);
    return;
  }
  startInput({ pixels: blankPixels() }, false); // what comes of nothing is not worth a look
  if (state.model.examples) await openExample(0, true);
}

// A cleared drawing.
function blankPixels() {
  const { inputs } = state.model;
  const { width, height } = canvasSize(inputs);
  const pixels = new Pixels(width, height);
  pixels.clear(isDrawn(inputs) ? backgroundOf(inputs) : packColor([128, 128, 128]));
  return pixels;
}

// Offers the kinds of tools for a model's inputs.
function drawKinds(inputs) {
  const kinds = kindsOf(inputs);
  find("kinds").hidden = kinds.length < 2;
  find("kinds").replaceChildren(choiceOf("Draw with", kinds.map((kind) => [
    kind, kind === "image" && inputs.kind !== "images" ? "File" : KIND_NAMES[kind]]), chooseKind));
}

// Chooses the kind of tool.
function chooseKind(kind) {
  state.kind = kind;
  showTools();
}

// Chooses brush, eraser, rectangle or fill.
function chooseMode(mode) {
  if (state.kind === "image") return;
  state.mode = mode;
  showTools();
}

// Chooses a label.
function chooseColor(place) {
  const { model, kind, mode } = state;
  if (kind !== "palette" || place >= model.inputs.palette.length) return;
  state.color = place;
  if (mode === "eraser") state.mode = "brush";
  showTools();
}

// Sets the size of brush or eraser.
function chooseSize(size) {
  if (!(state.mode in state.sizes)) return;
  state.sizes[state.mode] = Math.max(1, Math.min(LARGEST_SIZE, size));
  showTools();
}

// ---- what is drawn

// Begins with an input that cannot be undone. isAsked: whether its result is asked for.
function startInput({ pixels, file = null, photo = null }, isAsked = true) {
  if (pad.stroke) pad.cancel();
  undo.clear();
  opening += 1;
  Object.assign(state, { pixels, file, photo });
  pad.setPixels(pixels, state.model.inputs.count);
  showInput();
  if (isAsked) loop.renew();
}

// A side of a change: what is in a rectangle, and what the pixels stand for.
function sideOf(rect) {
  return { data: state.pixels.copy(rect), file: state.file, photo: state.photo };
}

// Replaces all that is drawn, which can be undone. part: of several images side by side, or null.
function replaceInput(what, { pixels, file = null, photo = null }, part = null) {
  if (pad.stroke) pad.cancel();
  const { width, height } = state.model.inputs;
  const rect = part === null ? state.pixels.box : { x: part * width, y: 0, width, height };
  const before = sideOf(rect);
  if (pixels) state.pixels.paste(rect, pixels.data);
  Object.assign(state, { file, photo });
  undo.add({ what, rect, before, after: sideOf(rect) });
  pad.show();
  showInput();
  loop.change();
}

// Puts one side of a change back.
function applySide(change, side) {
  state.pixels.paste(change.rect, side.data);
  Object.assign(state, { file: side.file, photo: side.photo });
  pad.show();
  showInput();
  loop.change();
}

// Takes the last change back, or makes it again.
function stepBack(isUndo) {
  if (pad.stroke) {
    pad.cancel();
    return;
  }
  const change = isUndo ? undo.undo() : undo.redo();
  if (!change) return;
  applySide(change, isUndo ? change.before : change.after);
  speak(`${isUndo ? "Undone" : "Redone"}: ${change.what}.`);
}

// Clears the drawing.
function clearInput() {
  if (state.pixels) replaceInput("clear", { pixels: blankPixels() });
}

// A stroke has drawn something.
function changeInStroke() {
  find("empty").hidden = true;
  loop.change(false);
}

// A stroke has ended.
function finishStroke(name, rect, before) {
  const side = { data: before, file: null, photo: state.photo };
  state.photo = null; // the photo can no longer be moved under what is drawn on it
  undo.add({ what: WHAT[name], rect, before: side, after: sideOf(rect) });
  showInput();
  loop.change();
}

// Moves the photo under its crop, by pixels of the canvas.
function movePhoto(right, down, isEnd) {
  const { source, place, part } = state.photo;
  const { width, height } = photoSize(part);
  const scale = Math.max(width / source.width, height / source.height) * place.zoom;
  const move = (share, by, length, most) => {
    const room = length * scale - most;
    return room > 0.5 ? Math.max(0, Math.min(1, share - by / room)) : 0.5;
  };
  placePhoto({ ...place, x: move(place.x, right, source.width, width),
    y: move(place.y, down, source.height, height) }, isEnd);
}

// The size of what a photo fills: a part of the canvas or all of it.
function photoSize(part) {
  const { width, height } = state.model.inputs;
  return part === null ? canvasSize(state.model.inputs) : { width, height };
}

// Shows another part of the photo. isEnd: not in the middle of a movement.
function placePhoto(place, isEnd) {
  const { source, part } = state.photo;
  const { width, height } = photoSize(part);
  const pixels = suitPixels(coverPixels(source, width, height, place), state.model.inputs);
  state.photo = { source, place, part };
  state.pixels.paste({ x: (part || 0) * width, y: 0, width, height }, pixels.data);
  pad.show();
  loop.change(isEnd);
}

// ---- images that are brought

// Opens an image: as a drawing where it can be one, otherwise as a file that is sent as it is.
async function openImage(blob, { what, name, part = null, isStart = false }) {
  const { model } = state;
  const number = opening += 1;
  let input = null;
  tell("");
  find("drawing").setAttribute("aria-busy", "true");
  try {
    input = await readInput(blob, { name, part });
  } catch {
    tell(`${name} cannot be read as an image.`);
    return;
  } finally {
    find("drawing").setAttribute("aria-busy", "false");
  }
  if (number !== opening || model !== state.model) return; // another has been opened meanwhile
  if (isStart) startInput({ pixels: blankPixels(), ...input });
  else replaceInput(what, input, input.file ? null : part);
  if (state.kind !== "image" && input.photo && what === "photo" && model.inputs.tool === "image") {
    chooseKind("image");
  }
}

// An image as what is drawn: {pixels}, {pixels, photo} or {file}. Raises where it is no image.
async function readInput(blob, { name, part }) {
  const { inputs } = state.model;
  const file = { blob, name };
  if (!isDrawn(inputs)) return { file };
  const { width, height } = photoSize(part);
  if (inputs.kind === "labels") {
    const image = await readPng(new Uint8Array(await blob.arrayBuffer()));
    const pixels = image && image.width === width && image.height === height
      ? labelPixels(image, inputs) : null;
    return pixels ? { pixels } : { file };
  }
  const source = await decodePhoto(blob);
  const place = { zoom: 1, x: 0.5, y: 0.5 };
  const pixels = suitPixels(coverPixels(source, width, height, place), inputs);
  return { pixels, photo: { source, place, part } };
}

// Opens an example of the model's.
async function openExample(number, isStart = false) {
  const { model } = state;
  lastExample = number;
  find("drawing").setAttribute("aria-busy", "true");
  try {
    const response = await fetch(`v1/models/${addressOf(model)}/examples/${number}`);
    if (!response.ok) throw new Error(await errorText(response));
    await openImage(await response.blob(),
      { what: "example", name: `example ${number + 1}`, isStart });
  } catch (error) {
    if (error instanceof TypeError) lose();
    else tell(error.message);
  } finally {
    find("drawing").setAttribute("aria-busy", "false");
  }
}

// Opens an example by chance, another than the last.
function openRandom() {
  const { examples } = state.model || { examples: 0 };
  if (!examples) return;
  const others = Array.from({ length: examples }, (_, number) => number)
    .filter((number) => examples === 1 || number !== lastExample);
  openExample(others[Math.floor(Math.random() * others.length)]);
}

// Opens a file that was dropped, pasted or picked.
function openFile(file, event = null) {
  if (!state.model) return;
  const { count } = state.model.inputs;
  let part = null;
  if (count > 1 && state.model.inputs.kind === "images") {
    part = event ? Math.floor(pad.pointOf(event).x / state.model.inputs.width) : 0;
    if (!(part >= 0 && part < count)) part = 0;
  }
  openImage(file, { what: "photo", name: file.name || "the image", part });
}

// Opens the camera, or what stands in for it.
function openCamera() {
  if (!Camera.isAllowed()) {
    tell("Browsers give pages a camera on https and on localhost alone. A phone can take a photo "
      + "as a file.");
    find("capture").click();
    return;
  }
  const { width, height } = state.model.inputs;
  camera.open(`${width} / ${height}`);
}

// Takes a photo of the camera.
function takePhoto(source) {
  const { inputs } = state.model;
  const place = { zoom: 1, x: 0.5, y: 0.5 };
  const part = inputs.count > 1 ? 0 : null;
  const { width, height } = photoSize(part);
  replaceInput("photo", { photo: { source, place, part },
    pixels: suitPixels(coverPixels(source, width, height, place), inputs) }, part);
  if (inputs.tool === "image") chooseKind("image");
}

// ---- the server

// The request of the result of what is drawn now, as people look at it; null where there is none.
async function prepareRequest() {
  const { model, pixels, file } = state;
  if (!model || model.state !== "AVAILABLE" || !pixels) return null;
  if (!file && !isDrawn(model.inputs)) return null;
  const bytes = file ? new Uint8Array(await file.blob.arrayBuffer())
    : await encodeInput(pixels, model.inputs);
  const type = file ? file.blob.type || "application/octet-stream" : "image/png";
  const address = addressOf(model) + (isShownAsIs(model.outputs) ? "" : "?show=output");
  return { address, version: model.step, type, bytes, model };
}

// Whether people look at a model's results as their files are.
function isShownAsIs(outputs) {
  return outputs.kind === "images" && outputs.file === "png" && outputs.type === "uint8";
}

// Takes a result; returns what is wrong with it, or null.
async function takeResult(answer) {
  if (answer.request.model.name !== state.model.name) return null; // chosen another meanwhile
  const address = URL.createObjectURL(answer.blob);
  const image = new Image();
  image.src = address;
  try {
    await image.decode(); // before it is shown, so that nothing flickers
  } catch {
    URL.revokeObjectURL(address);
    return "The server's answer is not an image.";
  }
  if (answer.request.model.name !== state.model.name) return null;
  if (state.result) URL.revokeObjectURL(state.result.address);
  state.result = { ...answer, address };
  showResult();
  return null;
}

// Looks which models there are, and whether the server answers.
async function poll() {
  if (document.hidden) return;
  try {
    const response = await fetch("v1/models", { cache: "no-store" });
    if (!response.ok) {
      state.trouble = await errorText(response);
      loop.resume();
    } else {
      const { models } = await response.json();
      state.trouble = null;
      await takeModels(models);
      loop.resume();
    }
  } catch {
    lose();
  }
  showState();
}

// The server does not answer.
function lose() {
  loop.isGone = true;
  showState();
}

// Takes the server's list of models: one may be new, gone, loaded, or of a newer checkpoint.
async function takeModels(models) {
  const names = (list) => JSON.stringify((list || []).map(({ name }) => name));
  const isOther = names(models) !== names(state.models);
  state.models = models;
  if (isOther) drawModels();
  if (!models.length) return;
  find("main").hidden = false;
  const newer = state.model && models.find(({ name }) => name === state.model.name);
  if (newer) renewModel(newer);
  else await openFirst();
}

// Takes a model as the server describes it now.
function renewModel(newer) {
  const { step, state: before, examples, inputs } = state.model;
  const size = JSON.stringify(inputs) !== JSON.stringify(newer.inputs);
  if (size) { // another training run in the same place
    chooseModel(newer);
    return;
  }
  state.model = newer;
  if (examples !== newer.examples) drawGallery();
  if (step === newer.step && before === newer.state) return;
  if (newer.step !== step && newer.step !== null) {
    tell(`A newer checkpoint has arrived: step ${formatCount(newer.step)}.`);
  }
  showResult();
  loop.renew();
}

// Opens the model and the drawing of the address, or the first model with its first example.
async function openFirst() {
  const hash = readHash();
  const model = state.models.find(({ name }) => name === hash.get("model")) || state.models[0];
  await chooseModel(model, !hash.has("drawing"));
  if (hash.has("drawing")) await openShared(hash.get("drawing"));
  if (hash.has("model") && model.name !== hash.get("model")) {
    tell(`The link is for the model ${hash.get("model")}, which is not served here.`);
  }
}

// Opens the drawing of a link.
async function openShared(text) {
  const bytes = fromBase64Url(text);
  if (!bytes || !await readPng(bytes)) {
    await openInput(null);
    tell("The link's drawing is damaged: perhaps the link was cut.");
    return;
  }
  await openImage(new Blob([bytes], { type: "image/png" }),
    { what: "link", name: "the link's drawing", isStart: true });
}

// ---- what is shown

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
    return ["gone", "The server does not answer. Keep drawing: it is asked again and again."];
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
  if (state.result && loop.isStale) {
    return ["stale", "The result is older than the drawing: press Run."];
  }
  if (!state.file && !isDrawn(model.inputs)) return ["ready", "Ready: open a file."];
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

// Shows the tools that there are for the model, and which are chosen.
function showTools() {
  const { model, kind, mode, sizes, photo, color } = state;
  const { inputs } = model;
  pressChoice(find("kinds"), kind);
  find("modes").hidden = kind === "image";
  pressChoice(find("modes"), mode);
  const size = sizes[mode];
  find("size-choice").hidden = kind === "image" || !size;
  find("size").value = size || 1;
  find("size-text").textContent = `${size} px`;
  find("ink-choice").hidden = kind !== "brush" || inputs.kind !== "images";
  find("ink").value = `#${state.ink.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
  find("palette").hidden = kind !== "palette";
  if (kind === "palette") drawPalette(inputs.palette, color);
  find("zoom-choice").hidden = kind !== "image" || !photo;
  find("zoom").value = photo ? photo.place.zoom : 1;
  find("hint").hidden = kind !== "image";
  find("hint").textContent = inputs.kind === "images" ? HINTS.photo : HINTS.file;
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
  find("empty").hidden = !isEmpty && !isUntouched();
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
}

// Whether nothing has been drawn or opened yet, and nothing is about to be.
function isUntouched() {
  return loop.changes === 0 && !state.model.examples;
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
  find("over").hidden = !result || view !== "over";
  find("waiting").hidden = Boolean(result);
  find("step").textContent = step === null ? "" : `step ${formatCount(step)}`;
  find("timing").textContent = result ? timingText(result) : "";
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

// "step 4,000, 92 ms (network 85 ms)".
function timingText({ step, milliseconds, networkMilliseconds }) {
  const network = networkMilliseconds === null ? ""
    : ` (network ${Math.round(networkMilliseconds)} ms)`;
  const start = step === null ? "" : `step ${formatCount(step)}, `;
  return `${start}${Math.round(milliseconds)} ms${network}`;
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
  find("over").hidden = !state.result || view !== "over";
  revealResult();
  fit();
}

// Shows the result right of where the slider is.
function revealResult() {
  find("over").style.clipPath = `inset(0 0 0 ${find("reveal").value}%)`;
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
  const alone = Math.min((room - (isPhone ? 0 : GAP + LEAST_RESULT)) / width,
    (isPhone ? window.innerHeight * 0.7 : tall - SLIDER_HEIGHT) / height);
  const isColumn = !isOver && across < down * COLUMN_GAIN;
  const scale = wholeScale(isOver ? alone : isColumn ? down : across);
  panes.classList.toggle("column", isColumn);
  panes.classList.toggle("pixelated", Number.isInteger(scale * window.devicePixelRatio));
  for (const [name, value] of [["input-width", `${width * scale}px`],
    ["output-width", `${each * scale}px`], ["pane-height", `${height * scale}px`],
    ["parts", count]]) panes.style.setProperty(`--${name}`, value);
}

// ---- sharing and saving

// Opens the dialog with the drawing's link.
async function share() {
  const link = linkOf(state.model.name, await encodeInput(state.pixels, state.model.inputs));
  const isLong = link.length > LONGEST_LINK;
  find("share-text").textContent = isLong
    ? `This drawing needs a link of ${formatCount(link.length)} characters, and many programs cut `
      + `links beyond ${formatCount(LONGEST_LINK)}. Share it as a file.`
    : "The link holds the drawing itself. It opens where this server can be reached.";
  find("share-link-line").hidden = isLong;
  find("share-link").value = isLong ? "" : link;
  find("share-copy").textContent = "Copy";
  find("share-dialog").showModal();
}

// Copies the link, by the clipboard where the page may use it.
async function copyLink() {
  find("share-link").select();
  try {
    await navigator.clipboard.writeText(find("share-link").value);
    find("share-copy").textContent = "Copied";
  } catch {
    find("share-copy").textContent = "Press Ctrl+C";
  }
}

// Saves the input's file.
async function saveInput() {
  const { model, file, pixels } = state;
  if (file) saveFile(file.blob, file.name);
  else saveFile(new Blob([await encodeInput(pixels, model.inputs)], { type: "image/png" }),
    `${model.name}-input.png`);
}

// Saves the result as it is shown.
function saveShown() {
  saveFile(state.result.blob, `${state.model.name}-output.png`);
}

// Saves the result in its own units.
async function saveOwn() {
  const { request } = state.result;
  const { outputs, name } = request.model;
  try {
    const response = await fetch(addressOf(request.model), { method: "POST", body: request.bytes,
      headers: { "Content-Type": request.type } });
    if (!response.ok) throw new Error(await errorText(response));
    saveFile(await response.blob(), `${name}-output.${outputs.file}`);
  } catch (error) {
    if (error instanceof TypeError) lose();
    else tell(error.message);
  }
}

// ---- the page

// What a key does outside of a dialog and a text box.
function pressKey(event) {
  if (document.querySelector("dialog[open]") || !state.model) return;
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && !event.altKey && (key === "z" || key === "y")) {
    stepBack(key === "z" && !event.shiftKey);
  } else if (event.ctrlKey || event.metaKey || event.altKey) return;
  else if (event.target.matches("select, input[type='text']")) return;
  else if (key === "?") find("keys").showModal();
  else if (key in MODE_KEYS) chooseMode(MODE_KEYS[key]);
  else if (key >= "0" && key <= "9") chooseColor((Number(key) + 9) % 10);
  else if (key === "[" || key === "]") chooseSize(state.sizes[state.mode] + (key === "]" ? 1 : -1));
  else if (key === "delete") clearInput();
  else if (key === "x") openRandom();
  else if (key === "v") chooseView(state.view === "over" ? "beside" : "over");
  else if (key === "l") find("live").click();
  else if (key === "enter" && !event.target.matches("button, a, input")) loop.run();
  else return;
  event.preventDefault();
}

// Takes an image of the clipboard.
function paste(event) {
  const file = fileOf(event.clipboardData);
  if (!file || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  openFile(file);
}

// Opens what a file input has picked.
function takePicked(event) {
  const [file] = event.target.files;
  event.target.value = "";
  if (file) openFile(file);
}

// Connects the controls.
function listen() {
  const on = (id, act, name = "click") => find(id).addEventListener(name, act);
  on("model", () => chooseModel(state.models.find(({ name }) => name === find("model").value)),
    "change");
  on("size", () => chooseSize(Number(find("size").value)), "input");
  on("ink", () => {
    state.ink = [1, 3, 5].map((at) => parseInt(find("ink").value.slice(at, at + 2), 16));
  }, "input");
  on("zoom", () => state.photo
    && placePhoto({ ...state.photo.place, zoom: Number(find("zoom").value) }, false), "input");
  on("zoom", () => loop.change(), "change");
  on("open", () => find("file").click());
  on("file", takePicked, "change");
  on("capture", takePicked, "change");
  on("camera-open", openCamera);
  on("undo", () => stepBack(true));
  on("redo", () => stepBack(false));
  on("clear", clearInput);
  on("pen-off", () => {
    pad.isPenOnly = false;
    find("pen").hidden = true;
  });
  on("reveal", revealResult, "input");
  on("share", share);
  on("share-copy", copyLink);
  on("share-file", saveInput);
  on("save-input", saveInput);
  on("save-shown", saveShown);
  on("save-own", saveOwn);
  on("live", () => loop.setLive(find("live").checked), "change");
  on("run", () => loop.run());
  on("random", openRandom);
  on("help", () => find("keys").showModal());
  document.addEventListener("keydown", pressKey);
  document.addEventListener("paste", paste);
  document.addEventListener("visibilitychange", poll);
  window.addEventListener("hashchange", () => state.models && state.models.length && openFirst());
  listenForDrops(document.body, openFile);
  new ResizeObserver(fit).observe(find("panes"));
  window.addEventListener("resize", fit);
}

// Builds the page.
function start() {
  loop = new LiveLoop({ prepare: prepareRequest, show: takeResult, told: showState });
  pad = new Pad({ canvas: find("canvas"), cursor: find("cursor"), tool: currentTool,
    changed: changeInStroke, finished: finishStroke, moved: movePhoto,
    pointed: showPoint, penSeen: () => { find("pen").hidden = false; } });
  camera = new Camera({ take: takePhoto, tell });
  find("modes").append(choiceOf("Tool", MODES, chooseMode));
  find("views").append(choiceOf("Result", [["beside", "Beside"], ["over", "Over"]], chooseView));
  chooseView("beside");
  listen();
  poll();
  setInterval(poll, POLL_PAUSE);
}

start();
