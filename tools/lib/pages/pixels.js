// The drawing: an array of pixels that is the truth, each a colour as a canvas stores it, and what
// brush, rectangle and fill do to it. Nothing is blended, so every pixel has the colour chosen.

// A colour [red, green, blue] as the number that stands for it.
function packColor([red, green, blue]) {
  return (255 << 24 | blue << 16 | green << 8 | red) >>> 0;
}

// The colour of such a number.
function unpackColor(packed) {
  return [packed & 255, packed >> 8 & 255, packed >> 16 & 255];
}

// The smallest rectangle around two, either of which may be null.
function joinRects(one, other) {
  if (!one || !other) return one || other;
  const left = Math.min(one.x, other.x);
  const top = Math.min(one.y, other.y);
  return { x: left, y: top,
    width: Math.max(one.x + one.width, other.x + other.width) - left,
    height: Math.max(one.y + one.height, other.y + other.height) - top };
}

// The rows [y, left, right] of a round brush around a pixel; right is included.
function brushRows(size) {
  const center = (size - 1) / 2;
  const middle = Math.floor(center);
  return Array.from({ length: size }, (_, row) => {
    const half = Math.sqrt((size / 2) ** 2 - (row - center) ** 2);
    return [row - middle, Math.ceil(center - half) - middle, Math.floor(center + half) - middle];
  });
}

class Pixels {
  constructor(width, height, data = new Uint32Array(width * height)) {
    Object.assign(this, { width, height, data });
    this.changed = null; // the rectangle that has changed since it was last taken
  }

  // All of it, as a rectangle.
  get box() {
    return { x: 0, y: 0, width: this.width, height: this.height };
  }

  // The rectangle that has changed since the last call, or null.
  takeChanged() {
    const changed = this.changed;
    this.changed = null;
    return changed;
  }

  // The colour of a pixel.
  colorAt(x, y) {
    return this.data[y * this.width + x];
  }

  // Gives all pixels one colour.
  clear(color) {
    this.data.fill(color);
    this.changed = this.box;
  }

  // The pixels of a rectangle, row by row.
  copy({ x, y, width, height }) {
    const copied = new Uint32Array(width * height);
    for (let row = 0; row < height; row += 1) {
      const start = (y + row) * this.width + x;
      copied.set(this.data.subarray(start, start + width), row * width);
    }
    return copied;
  }

  // Puts pixels that were copied back.
  paste(rect, copied) {
    for (let row = 0; row < rect.height; row += 1) {
      this.data.set(copied.subarray(row * rect.width, (row + 1) * rect.width),
        (rect.y + row) * this.width + rect.x);
    }
    this.changed = joinRects(this.changed, rect);
  }

  // A brush's dab at a pixel, inside of bounds. rows: of brushRows.
  dab(x, y, rows, color, bounds) {
    for (const [row, first, last] of rows) {
      const [left, right] = [Math.max(bounds.x, x + first),
        Math.min(bounds.x + bounds.width - 1, x + last)];
      if (y + row < bounds.y || y + row >= bounds.y + bounds.height || left > right) continue;
      const start = (y + row) * this.width;
      this.data.fill(color, start + left, start + right + 1);
      this.changed = joinRects(this.changed,
        { x: left, y: y + row, width: right - left + 1, height: 1 });
    }
  }

  // A line of dabs from pixel to pixel (Bresenham's), both included.
  line(from, to, size, color, bounds) {
    const rows = brushRows(size);
    const [across, down] = [Math.abs(to.x - from.x), -Math.abs(to.y - from.y)];
    const [stepX, stepY] = [from.x < to.x ? 1 : -1, from.y < to.y ? 1 : -1];
    let { x, y } = from;
    let error = across + down;
    for (;;) {
      this.dab(x, y, rows, color, bounds);
      if (x === to.x && y === to.y) return;
      const twice = 2 * error;
      if (twice >= down) {
        error += down;
        x += stepX;
      }
      if (twice <= across) {
        error += across;
        y += stepY;
      }
    }
  }

  // A filled rectangle between two corners, both included.
  rectangle(from, to, color, bounds) {
    const left = Math.max(bounds.x, Math.min(from.x, to.x));
    const right = Math.min(bounds.x + bounds.width - 1, Math.max(from.x, to.x));
    const top = Math.max(bounds.y, Math.min(from.y, to.y));
    const bottom = Math.min(bounds.y + bounds.height - 1, Math.max(from.y, to.y));
    if (left > right || top > bottom) return;
    for (let y = top; y <= bottom; y += 1) {
      this.data.fill(color, y * this.width + left, y * this.width + right + 1);
    }
    this.changed = joinRects(this.changed,
      { x: left, y: top, width: right - left + 1, height: bottom - top + 1 });
  }

  // Fills what is connected to a pixel, side by side, and of its group. groupOf(color): pixels of
  // one group are filled together, such as the shades of a label in a JPEG.
  fill({ x, y }, color, bounds, groupOf) {
    const { data, width } = this;
    const group = groupOf(this.colorAt(x, y));
    const seen = new Uint8Array(data.length);
    const waiting = [y * width + x];
    seen[waiting[0]] = 1;
    let [left, right, top, bottom] = [x, x, y, y];
    while (waiting.length) {
      const at = waiting.pop();
      const [column, row] = [at % width, Math.floor(at / width)];
      data[at] = color;
      left = Math.min(left, column);
      right = Math.max(right, column);
      top = Math.min(top, row);
      bottom = Math.max(bottom, row);
      const visit = (next) => {
        if (seen[next] || groupOf(data[next]) !== group) return;
        seen[next] = 1;
        waiting.push(next);
      };
      if (column > bounds.x) visit(at - 1);
      if (column < bounds.x + bounds.width - 1) visit(at + 1);
      if (row > bounds.y) visit(at - width);
      if (row < bounds.y + bounds.height - 1) visit(at + width);
    }
    this.changed = joinRects(this.changed,
      { x: left, y: top, width: right - left + 1, height: bottom - top + 1 });
  }

  // Fills all pixels of a pixel's group inside of bounds, connected or not.
  replace({ x, y }, color, bounds, groupOf) {
    const group = groupOf(this.colorAt(x, y));
    const copied = this.copy(bounds);
    this.paste(bounds, copied.map((own) => (groupOf(own) === group ? color : own)));
  }
}

// The pixel in the middle of a square at x, y.
function nearestPixel({ width, height, data }, x, y, size) {
  const column = Math.min(width - 1, Math.floor(x + size / 2));
  return data[Math.min(height - 1, Math.floor(y + size / 2)) * width + column];
}

// The mean of the pixels of a square at x, y.
function meanPixel({ width, height, data }, x, y, size) {
  const [left, top] = [Math.floor(x + 1e-6), Math.floor(y + 1e-6)];
  const right = Math.min(width, Math.max(left + 1, Math.round(x + size)));
  const bottom = Math.min(height, Math.max(top + 1, Math.round(y + size)));
  let [red, green, blue] = [0, 0, 0];
  for (let row = top; row < bottom; row += 1) {
    for (let at = row * width + left; at < row * width + right; at += 1) {
      red += data[at] & 255;
      green += data[at] >> 8 & 255;
      blue += data[at] >> 16 & 255;
    }
  }
  const count = (right - left) * (bottom - top);
  return packColor([red, green, blue].map((sum) => Math.round(sum / count)));
}

// What lies in the middle of a square at x, y, between the four pixels around it.
function betweenPixels({ width, height, data }, x, y, size) {
  const limit = (value, most) => Math.max(0, Math.min(most, value));
  const [centerX, centerY] = [limit(x + size / 2 - 0.5, width - 1),
    limit(y + size / 2 - 0.5, height - 1)];
  const [left, top] = [Math.floor(centerX), Math.floor(centerY)];
  const [shareX, shareY] = [centerX - left, centerY - top];
  const corners = [[0, 0, (1 - shareX) * (1 - shareY)], [1, 0, shareX * (1 - shareY)],
    [0, 1, (1 - shareX) * shareY], [1, 1, shareX * shareY]];
  const color = [0, 0, 0];
  for (const [right, below, share] of corners) {
    const at = Math.min(height - 1, top + below) * width + Math.min(width - 1, left + right);
    unpackColor(data[at]).forEach((value, channel) => { color[channel] += share * value; });
  }
  return packColor(color.map((value) => Math.round(value)));
}

// Pixels of a width and height that show as much of others as fits, never stretched. place: zoom
// from 1, and x, y from 0 to 1: which part of what does not fit. isSmooth: whether colours may mix.
function coverPixels(source, width, height, { zoom = 1, x = 0.5, y = 0.5 } = {}, isSmooth = true) {
  const scale = Math.max(width / source.width, height / source.height) * zoom;
  const startX = (source.width - width / scale) * x;
  const startY = (source.height - height / scale) * y;
  const covered = new Pixels(width, height);
  const mix = !isSmooth ? nearestPixel : scale < 1 ? meanPixel : betweenPixels;
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      covered.data[row * width + column] = mix(
        source, startX + column / scale, startY + row / scale, 1 / scale);
    }
  }
  return covered;
}
