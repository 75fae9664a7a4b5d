// The canvas that people draw on: mouse, pen, touch and keyboard become strokes on the pixels. The
// canvas only shows the pixels, and of these only the rectangle that has changed.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const LONG_STEP = 10; // pixels by an arrow key with Shift
const ERASER_BUTTON = 32; // of a pen, in PointerEvent.buttons

class Pad {
  // canvas, cursor: elements. tool(): {name, color, size, erase, groupOf} to draw with, name null
  // where nothing can be drawn. changed(): in mid-stroke; finished(what, rect, before): after one;
  // pointed(point, isKey): where pointer or keys are, or null; moved(x, y, isEnd): the tool "move";
  // penSeen(): the first time that a pen draws.
  constructor({ canvas, cursor, tool, ...told }) {
    Object.assign(this, { canvas, cursor, tool, told });
    this.context = canvas.getContext("2d", { alpha: false });
    this.stroke = null;
    this.isPenOnly = false; // whether touches are ignored
    this.touches = new Set(); // ids of the fingers on the canvas
    this.keyPoint = null; // the keyboard's cursor
    this.keyCorner = null; // the first corner of its rectangle
    this.listen();
  }

  // Listens to pointers and keys.
  listen() {
    const { canvas } = this;
    const on = (name, act) => canvas.addEventListener(name, act.bind(this));
    on("pointerdown", this.press);
    on("pointermove", this.follow);
    on("pointerup", this.release);
    on("pointercancel", this.lose);
    on("lostpointercapture", this.lose);
    on("pointerleave", this.leave);
    on("keydown", this.pressKey);
    on("keyup", this.releaseKey);
    on("blur", this.leaveKeys);
    on("contextmenu", (event) => { // of a long press
      if (this.stroke || this.touches.size) event.preventDefault();
    });
  }

  // Shows other pixels. parts: how many images lie side by side in them.
  setPixels(pixels, parts) {
    const { width, height, data } = pixels;
    Object.assign(this, { pixels, parts, stroke: null, keyPoint: null, keyCorner: null });
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    this.image = new ImageData(new Uint8ClampedArray(data.buffer), width, height); // no copy
    pixels.changed = pixels.box;
    this.show();
  }

  // Shows what has changed; returns its rectangle.
  show() {
    const rect = this.pixels.takeChanged();
    if (rect) {
      this.context.putImageData(this.image, 0, 0, rect.x, rect.y, rect.width, rect.height);
    }
    return rect;
  }

  // The pixel under a pointer, and how far it has come in pixels and parts of them.
  pointOf(event) {
    const box = this.canvas.getBoundingClientRect();
    const { width, height } = this.pixels;
    return { x: Math.floor((event.clientX - box.left) * width / box.width),
      y: Math.floor((event.clientY - box.top) * height / box.height),
      exactX: event.clientX / box.width * width, exactY: event.clientY / box.height * height };
  }

  // The image of several side by side in which a pixel lies: a stroke stays inside of it.
  boundsAt({ x }) {
    const width = this.pixels.width / this.parts;
    const part = Math.max(0, Math.min(this.parts - 1, Math.floor(x / width)));
    return { x: part * width, y: 0, width, height: this.pixels.height };
  }

  // ---- strokes

  // Begins a stroke. isEverywhere: whether a fill takes all of its colour, connected or not.
  begin(point, tool, pointer = null, isEverywhere = false) {
    this.stroke = { tool, pointer, start: point, last: point, bounds: this.boundsAt(point),
      before: this.pixels.data.slice(), rect: null };
    if (tool.name === "fill") {
      const { x, y, width, height } = this.stroke.bounds;
      if (point.x < x || point.x >= x + width || point.y < y || point.y >= y + height) {
        this.stroke = null;
        return;
      }
      const fill = isEverywhere ? "replace" : "fill";
      this.pixels[fill](point, tool.color, this.stroke.bounds, tool.groupOf);
      this.note();
      this.end();
    } else if (tool.name !== "move") this.extend(point);
  }

  // Draws up to a point.
  extend(point) {
    const { stroke, pixels } = this;
    const { tool, bounds, start, last } = stroke;
    if (tool.name === "move") {
      this.told.moved(point.exactX - last.exactX, point.exactY - last.exactY, false);
    } else if (tool.name === "rectangle") {
      this.restore();
      pixels.rectangle(start, point, tool.color, bounds);
    } else pixels.line(last, point, tool.size, tool.color, bounds);
    stroke.last = point;
    this.note();
  }

  // Shows the stroke so far.
  note() {
    const rect = this.show();
    this.stroke.rect = joinRects(this.stroke.rect, rect);
    if (rect) this.told.changed();
  }

  // Puts back what was there before the stroke.
  restore() {
    const { rect, before } = this.stroke;
    if (!rect) return;
    const { width, height } = this.pixels;
    this.pixels.paste(rect, new Pixels(width, height, before).copy(rect));
  }

  // Ends the stroke.
  end() {
    const { stroke } = this;
    this.stroke = null;
    if (stroke.tool.name === "move") this.told.moved(0, 0, true);
    else if (stroke.rect) {
      const { width, height } = this.pixels;
      const before = new Pixels(width, height, stroke.before).copy(stroke.rect);
      this.told.finished(stroke.tool.name, stroke.rect, before);
    }
  }

  // Takes the stroke back, as if it had not been.
  cancel() {
    if (this.stroke.tool.name === "move") {
      this.end();
      return;
    }
    this.restore();
    this.show();
    this.stroke = null;
    this.told.changed();
  }

  // ---- pointers

  // A pointer goes down: a pen shuts out touch, a second finger takes the stroke back.
  press(event) {
    const isTouch = event.pointerType === "touch";
    if (isTouch) this.touches.add(event.pointerId);
    if (event.pointerType === "pen" && !this.isPenOnly) {
      this.isPenOnly = true;
      if (this.stroke) this.cancel();
      this.told.penSeen();
    }
    if (isTouch && this.isPenOnly) return;
    if (this.stroke) {
      if (isTouch && this.stroke.pointer !== null) this.cancel();
      return;
    }
    const isEraser = Boolean(event.buttons & ERASER_BUTTON);
    if (this.touches.size > 1 || (event.button !== 0 && !isEraser)) return;
    const tool = this.tool(isEraser);
    if (!tool.name) return;
    event.preventDefault(); // no selection, no scroll; the focus is set by hand
    this.canvas.focus({ preventScroll: true });
    this.hideKeys();
    this.canvas.setPointerCapture(event.pointerId);
    this.begin(this.pointOf(event), tool, event.pointerId, event.shiftKey);
    this.hover(event);
  }

  // A pointer moves: all its samples since the last event.
  follow(event) {
    if (this.stroke && this.stroke.pointer === event.pointerId) {
      const isSampled = event.getCoalescedEvents && this.stroke.tool.name !== "move";
      const events = isSampled ? event.getCoalescedEvents() : [];
      for (const each of events.length ? events : [event]) this.extend(this.pointOf(each));
    }
    this.hover(event);
  }

  // A pointer goes up.
  release(event) {
    this.touches.delete(event.pointerId);
    if (this.stroke && this.stroke.pointer === event.pointerId) this.end();
    if (event.pointerType === "touch") this.leave();
  }

  // A pointer is lost: what it has drawn stays, as its end is not known to be unwanted.
  lose(event) {
    this.touches.delete(event.pointerId);
    if (this.stroke && this.stroke.pointer === event.pointerId) this.end();
  }

  // Shows the brush under the pointer.
  hover(event) {
    if (event.pointerType === "touch" && !this.stroke) return;
    const point = this.pointOf(event);
    const { width, height } = this.pixels;
    const isInside = point.x >= 0 && point.x < width && point.y >= 0 && point.y < height;
    this.drawCursor(isInside ? point : null, this.tool(Boolean(event.buttons & ERASER_BUTTON)));
    this.told.pointed(isInside ? point : null, false);
  }

  // The pointer leaves.
  leave() {
    if (this.keyPoint) return;
    this.drawCursor(null);
    this.told.pointed(null, false);
  }

  // ---- keys

  // Arrows move a cursor, Space paints there.
  pressKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.pixels) return;
    const tool = this.tool(false);
    if (!tool.name) return;
    if (event.key in ARROWS) this.moveKeys(ARROWS[event.key], event.shiftKey, tool);
    else if (event.key === " ") this.paintKeys(event, tool);
    else if (event.key === "Escape" && this.keyCorner) this.dropCorner();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // Moves the cursor; with Space down, paints on the way.
  moveKeys([right, down], isLong, tool) {
    const step = isLong ? LONG_STEP : 1;
    if (tool.name === "move") {
      this.told.moved(right * step, down * step, true);
      return;
    }
    const { width, height } = this.pixels;
    const from = this.keyPoint || { x: Math.floor(width / 2), y: Math.floor(height / 2) };
    this.keyPoint = { x: Math.max(0, Math.min(width - 1, from.x + right * step)),
      y: Math.max(0, Math.min(height - 1, from.y + down * step)) };
    if (this.stroke && this.stroke.pointer === null) this.extend(this.keyPoint);
    this.drawCursor(this.keyPoint, tool);
    this.told.pointed(this.keyPoint, true);
  }

  // Paints at the cursor: a dab, a fill, or one of the two corners of a rectangle.
  paintKeys({ repeat, shiftKey }, tool) {
    if (repeat || tool.name === "move") return;
    if (!this.keyPoint) this.moveKeys([0, 0], false, tool);
    if (this.stroke && tool.name === "rectangle") this.end();
    else if (!this.stroke) this.begin(this.keyPoint, tool, null, shiftKey);
    this.keyCorner = this.stroke && tool.name === "rectangle" ? this.keyPoint : null;
    this.told.pointed(this.keyPoint, true, this.keyCorner ? "first corner" : "painted");
  }

  // Space goes up, or Tab, which has brought the focus here.
  releaseKey(event) {
    const tool = this.tool(false);
    if (event.key === "Tab" && !this.keyPoint && tool.name && tool.name !== "move") {
      this.moveKeys([0, 0], false, tool);
    }
    if (event.key !== " ") return;
    if (this.stroke && this.stroke.pointer === null && !this.keyCorner) this.end();
  }

  // Cancels the rectangle of the keyboard.
  dropCorner() {
    this.keyCorner = null;
    if (this.stroke) this.cancel();
  }

  // Hides the keyboard's cursor.
  hideKeys() {
    if (this.keyCorner) this.dropCorner();
    this.keyPoint = null;
  }

  // The focus goes elsewhere.
  leaveKeys() {
    this.hideKeys();
    if (this.stroke && this.stroke.pointer === null) this.end();
    this.drawCursor(null);
  }

  // Draws the brush's outline around a pixel, as large as what it paints; null hides it.
  drawCursor(point, tool = null) {
    const { cursor, canvas } = this;
    cursor.hidden = !point || !tool || !tool.name || tool.name === "move";
    if (cursor.hidden) return;
    const size = tool.name === "fill" || tool.name === "rectangle" ? 1 : tool.size;
    const scale = canvas.clientWidth / this.pixels.width;
    const middle = Math.floor((size - 1) / 2);
    const length = Math.max(6, size * scale);
    const place = (at) => (at - middle + size / 2) * scale - length / 2;
    cursor.style.width = cursor.style.height = `${length}px`;
    cursor.style.transform = `translate(${place(point.x)}px, ${place(point.y)}px)`;
    cursor.classList.toggle("round", size > 3);
    cursor.classList.toggle("cross", Boolean(this.keyPoint));
  }
}
