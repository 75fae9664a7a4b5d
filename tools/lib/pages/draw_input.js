// What is drawn on the drawing page: strokes, photos, examples, and how they are undone. It works
// on the state of draw.js.

const WHAT = { brush: "stroke", eraser: "eraser", rectangle: "rectangle", fill: "fill" };

// Begins with an input that cannot be undone. isAsked: whether its result is asked for.
function startInput({ pixels, file = null, photo = null }, isAsked = true) {
  if (pad.stroke) pad.cancel();
  undo.clear();
  opening += 1;
  Object.assign(state, { pixels, file, photo });
  pad.setPixels(pixels, state.model.inputs.count);
  showInput();
  if (isAsked) loop.renew();
  else showState();
}

// A side of a change: what is in a rectangle, and what the pixels stand for.
function sideOf(rect) {
  return { data: state.pixels.copy(rect), file: state.file, photo: state.photo };
}

// Replaces all that is drawn, which can be undone. part: of several images side by side, or null.
function replaceInput(what, { pixels, file = null, photo = null }, part = null) {
  if (pad.stroke) pad.cancel();
  tell("");
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

// Goes back to the tools of a model of drawings, where what is left is one.
function leavePhoto() {
  const { kind, file, pixels, model: { inputs } } = state;
  const isStrange = inputs.tool === "image" || file || !isLikeDrawing(pixels, inputs);
  if (kind === "image" && !isStrange) chooseKind(inputs.tool);
}

// Puts one side of a change back.
function applySide(change, side) {
  state.pixels.paste(change.rect, side.data);
  Object.assign(state, { file: side.file, photo: side.photo });
  leavePhoto();
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
  if (!state.pixels) return;
  replaceInput("clear", { pixels: blankPixels() });
  speak("Cleared.");
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
  tell("");
  speak("");
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
  keepSoon();
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
  speak(`Opened: ${name}.`);
  if (what === "photo" && input.photo) greetPhoto(input.pixels);
}

// Offers to move a photo; says so where the model knows drawings alone.
function greetPhoto(pixels) {
  const { inputs } = state.model;
  if (inputs.tool !== "image" && isLikeDrawing(pixels, inputs)) return;
  chooseKind("image");
  if (inputs.tool === "image") return;
  const taught = inputs.tool === "palette" ? "label maps" : "drawings";
  tell(`A photo: this model was taught with ${taught}, so the result may be poor.`);
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
    if (error instanceof TypeError) {
      lose();
      tell(`Example ${number + 1} cannot be loaded: the server does not answer.`);
    } else tell(error.message);
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
  const pixels = suitPixels(coverPixels(source, width, height, place), inputs);
  replaceInput("photo", { photo: { source, place, part }, pixels }, part);
  speak("Opened: the camera's photo.");
  greetPhoto(pixels);
}
