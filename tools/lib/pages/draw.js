// The drawing page: which model, which tool, what is drawn, what comes of it.

const POLL_PAUSE = 3000; // milliseconds between two looks at the server's models
const UNDO_BYTES = 1 << 26; // of all changes that can be undone
const ERASER_SIZE = 15; // pixels
const LARGEST_SIZE = 64; // of a brush, in pixels
const KEEP_PAUSE = 100; // milliseconds after a change until the drawing is kept
const MODES = [["brush", "Brush"], ["eraser", "Eraser"], ["rectangle", "Rectangle"],
  ["fill", "Fill"]];
const MODE_KEYS = { b: "brush", e: "eraser", r: "rectangle", f: "fill" };

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
let keepTimer = null;
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
  find("api").href = `api#${hashOf(model.name, null)}`;
  tell("");
  speak(`Model: ${model.name}.`);
  const { inputs } = model;
  Object.assign(state, { mode: "brush", color: 0, ink: inputs.ink || [0, 0, 0], result: null });
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

// Whether nothing is drawn: then there is nothing to ask for.
function isBlank() {
  const { model: { inputs }, file, pixels } = state;
  if (!pixels || file || !isDrawn(inputs)) return false;
  const background = backgroundOf(inputs);
  return pixels.data.every((color) => color === background);
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

// ---- the server

// The request of the result of what is drawn now, as people look at it; null where there is none.
async function prepareRequest() {
  const { model, pixels, file } = state;
  if (!model || model.state !== "AVAILABLE" || !pixels) return null;
  if (isBlank() || (!file && !isDrawn(model.inputs))) return null;
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
  if (isBlank()) { // cleared meanwhile
    loop.last = null;
    return null;
  }
  if (state.result) URL.revokeObjectURL(state.result.address);
  state.result = { ...answer, address };
  showResult();
  return null;
}

// Takes the result away, where nothing is drawn any more.
function dropResult() {
  if (state.result) URL.revokeObjectURL(state.result.address);
  state.result = null;
  loop.last = null;
  loop.error = null;
  showResult();
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
  const own = keptState();
  const isServed = own && state.models.some(({ name }) => name === own.get("model"));
  const hash = isServed ? own : readHash();
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

// ---- sharing and saving

// Keeps what is drawn, once it has not changed for a while. A file is not kept.
function keepSoon() {
  clearTimeout(keepTimer);
  keepTimer = setTimeout(keepDrawing, KEEP_PAUSE);
}

// Keeps what is drawn for this tab.
async function keepDrawing() {
  clearTimeout(keepTimer);
  const { model, file, pixels } = state;
  if (!model || !pixels) return;
  const isKept = !file && isDrawn(model.inputs);
  keepState(hashOf(model.name, isKept ? await encodeInput(pixels, model.inputs) : null));
}

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
  on("grip", (event) => find("grip").setPointerCapture(event.pointerId), "pointerdown");
  on("grip", dragGrip, "pointermove");
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
  document.addEventListener("visibilitychange", keepDrawing);
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
  find("views").append(choiceOf("Where the result lies",
    [["beside", "Beside"], ["over", "Over"]], chooseView));
  chooseView("beside");
  listen();
  poll();
  setInterval(poll, POLL_PAUSE);
}

start();
