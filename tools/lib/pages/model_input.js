// Between a drawing and the files that a model takes: colours, grey values or indices of labels.

const NEAR = 32; // of 255: colours of a drawing that has been a JPEG

// The grey value of a colour, as Pillow's mode L rounds it.
function greyOf(packed) {
  const [red, green, blue] = unpackColor(packed);
  return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
}

// Whether two models take inputs of the same kind, so that a drawing for one is one for the other.
function takesSame(one, other) {
  const describe = ({ kind, channels, indices, file, count, palette }) => JSON.stringify([
    kind, channels, indices, file, count,
    palette && palette.map(({ color, index }) => [color, index])]);
  return describe(one) === describe(other);
}

// A function that finds the entry of a palette nearest to a packed colour: its place.
function nearestIn(palette) {
  const known = new Map();
  return (packed) => {
    if (known.has(packed)) return known.get(packed);
    const color = unpackColor(packed);
    const distances = palette.map((entry) => entry.color.reduce(
      (sum, value, channel) => sum + (value - color[channel]) ** 2, 0));
    known.set(packed, distances.indexOf(Math.min(...distances)));
    return known.get(packed);
  };
}

// The bytes of the PNG file that a model takes for these pixels.
async function encodeInput({ width, height, data }, inputs) {
  if (inputs.indices) {
    const Samples = inputs.palette.some(({ index }) => index > 255) || inputs.type === "uint16"
      ? Uint16Array : Uint8Array;
    const indices = new Map(inputs.palette.map(({ color, index }) => [packColor(color), index]));
    const samples = Samples.from(data, (packed) => indices.get(packed));
    return writePng({ width, height, channels: 1, samples });
  }
  if (inputs.channels === 1 && inputs.kind === "images") {
    return writePng({ width, height, channels: 1, samples: Uint8Array.from(data, greyOf) });
  }
  const samples = new Uint8Array(data.length * 3);
  for (let at = 0; at < data.length; at += 1) {
    samples[at * 3] = data[at];
    samples[at * 3 + 1] = data[at] >> 8;
    samples[at * 3 + 2] = data[at] >> 16;
  }
  return writePng({ width, height, channels: 3, samples });
}

// The pixels of an image of readPng; null where it has more than 8 bits.
function pixelsOf({ width, height, channels, bits, samples }) {
  if (bits === 16) return null;
  const factor = channels === 1 ? 255 / ((1 << bits) - 1) : 1;
  const data = Uint32Array.from({ length: width * height }, (_, at) => packColor(
    [0, 1, 2].map((channel) => samples[at * channels + (channels === 3 ? channel : 0)] * factor)));
  return new Pixels(width, height, data);
}

// The pixels of a label image of readPng in a palette's colours; null where one is not of it.
function labelPixels(image, { palette, indices }) {
  const colors = new Map(palette.map(({ color, index }) => [
    indices ? index : packColor(color), packColor(color)]));
  if (indices && image.channels !== 1) return null;
  const values = indices ? image.samples : (pixelsOf(image) || { data: [] }).data;
  const data = new Uint32Array(image.width * image.height);
  for (let at = 0; at < data.length; at += 1) {
    const color = colors.get(values[at]);
    if (color === undefined) return null;
    data[at] = color;
  }
  return new Pixels(image.width, image.height, data);
}

// Whether most pixels have about one of the colours that a model's inputs are drawn in.
function isLikeDrawing({ data }, { palette, background, ink }) {
  const colors = palette ? palette.map(({ color }) => color)
    : [background || [255, 255, 255], ink || [0, 0, 0]];
  const isNear = (packed) => {
    const color = unpackColor(packed);
    return colors.some((one) => one.every(
      (value, channel) => Math.abs(value - color[channel]) <= NEAR));
  };
  return data.filter(isNear).length >= data.length / 2;
}

// A drawing as a model takes it: of one channel all colours become grey.
function suitPixels(pixels, inputs) {
  if (inputs.channels !== 1 || inputs.kind !== "images") return pixels;
  pixels.data.forEach((packed, at) => {
    const grey = greyOf(packed);
    pixels.data[at] = packColor([grey, grey, grey]);
  });
  return pixels;
}
