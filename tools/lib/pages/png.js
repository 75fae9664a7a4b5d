// PNG files from pixels and back, exactly. A canvas in between could change them: browsers blend,
// convert and, in private modes, falsify what a page reads from it.

const PNG_SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const PNG_CHANNELS = { 0: 1, 2: 3, 3: 1 }; // colour type -> samples of a pixel; no alpha
const PNG_MOST_PIXELS = 1 << 26;
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) {
    value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  }
  return value;
});

// The CRC-32 of bytes.
function crc32(bytes) {
  let crc = 0xffffffff;
  for (let at = 0; at < bytes.length; at += 1) {
    crc = CRC_TABLE[(crc ^ bytes[at]) & 255] ^ (crc >>> 8);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

// What a CompressionStream or DecompressionStream makes of bytes.
async function transformBytes(bytes, stream) {
  const readable = new Blob([bytes]).stream().pipeThrough(stream);
  return new Uint8Array(await new Response(readable).arrayBuffer());
}

// A chunk of a PNG file: length, name, bytes, checksum.
function pngChunk(name, bytes) {
  const chunk = new Uint8Array(12 + bytes.length);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, bytes.length);
  chunk.set([...name].map((letter) => letter.charCodeAt(0)), 4);
  chunk.set(bytes, 8);
  view.setUint32(8 + bytes.length, crc32(chunk.subarray(4, 8 + bytes.length)));
  return chunk;
}

// Samples as the bytes of a PNG: 16 bits are big-endian.
function sampleBytes(samples) {
  if (samples instanceof Uint8Array) return samples;
  const bytes = new Uint8Array(samples.length * 2);
  const view = new DataView(bytes.buffer);
  samples.forEach((value, at) => view.setUint16(at * 2, value));
  return bytes;
}

// An image as the bytes of a PNG file. channels: 1 or 3; samples: Uint8Array or Uint16Array.
async function writePng({ width, height, channels, samples }) {
  const bytes = sampleBytes(samples);
  const stride = bytes.length / height;
  const rows = new Uint8Array((stride + 1) * height); // each begins with its filter: 0, none
  for (let y = 0; y < height; y += 1) {
    rows.set(bytes.subarray(y * stride, (y + 1) * stride), y * (stride + 1) + 1);
  }
  const head = new Uint8Array(13);
  const view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head.set([samples.BYTES_PER_ELEMENT * 8, channels === 1 ? 0 : 2], 8);
  const deflated = await transformBytes(rows, new CompressionStream("deflate"));
  const parts = [Uint8Array.from(PNG_SIGNATURE), pngChunk("IHDR", head),
    pngChunk("IDAT", deflated), pngChunk("IEND", new Uint8Array(0))];
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

// The chunks of a PNG file as name -> bytes, those of IDAT joined; null where it is none.
function pngChunks(bytes) {
  if (PNG_SIGNATURE.some((value, at) => bytes[at] !== value)) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chunks = {};
  const data = [];
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at);
    const name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (at + 12 + length > bytes.length) return null;
    const content = bytes.subarray(at + 8, at + 8 + length);
    if (name === "IDAT") data.push(content);
    else chunks[name] = content;
    at += 12 + length;
  }
  return chunks.IHDR && chunks.IHDR.length === 13 ? { ...chunks, IDAT: new Blob(data) } : null;
}

// The Paeth predictor of the PNG standard: of left, above and above left the nearest to their sum.
function paeth(left, above, corner) {
  const sum = left + above - corner;
  const [byLeft, byAbove, byCorner] = [left, above, corner].map((value) => Math.abs(sum - value));
  if (byLeft <= byAbove && byLeft <= byCorner) return left;
  return byAbove <= byCorner ? above : corner;
}

// Rows of bytes without their filters; null where one is unknown. step: bytes of a pixel.
function unfilter(rows, stride, height, step) {
  const bytes = new Uint8Array(stride * height);
  for (let y = 0; y < height; y += 1) {
    const filter = rows[y * (stride + 1)];
    if (filter > 4) return null;
    for (let x = 0; x < stride; x += 1) {
      const at = y * stride + x;
      const left = x >= step ? bytes[at - step] : 0;
      const above = y ? bytes[at - stride] : 0;
      const corner = y && x >= step ? bytes[at - stride - step] : 0;
      const guess = filter === 0 ? 0 : filter === 1 ? left : filter === 2 ? above
        : filter === 3 ? (left + above) >> 1 : paeth(left, above, corner);
      bytes[at] = rows[y * (stride + 1) + 1 + x] + guess;
    }
  }
  return bytes;
}

// Rows of bytes as samples of so many bits: Uint8Array or, of 16 bits, Uint16Array.
function unpackSamples(bytes, stride, { count, height, bits }) {
  if (bits === 8) return bytes;
  const samples = bits === 16 ? new Uint16Array(count * height) : new Uint8Array(count * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < count; x += 1) {
      const at = y * stride + ((x * bits) >> 3);
      samples[y * count + x] = bits === 16 ? bytes[at] << 8 | bytes[at + 1]
        : (bytes[at] >> (8 - bits - ((x * bits) & 7))) & ((1 << bits) - 1);
    }
  }
  return samples;
}

// The image of a PNG file as {width, height, channels, bits, samples}; null where it has alpha, is
// interlaced, turned or no PNG: a browser can decode it then, though not exactly.
async function readPng(bytes) {
  const chunks = pngChunks(bytes);
  if (!chunks || chunks.tRNS || chunks.eXIf) return null;
  const head = new DataView(chunks.IHDR.buffer, chunks.IHDR.byteOffset, 13);
  const [width, height] = [head.getUint32(0), head.getUint32(4)];
  const [bits, type, interlace] = [8, 9, 12].map((at) => head.getUint8(at));
  const channels = PNG_CHANNELS[type];
  if (!channels || interlace || !width || width * height > PNG_MOST_PIXELS) return null;
  const stride = Math.ceil(width * channels * bits / 8);
  let rows;
  try {
    rows = await transformBytes(chunks.IDAT, new DecompressionStream("deflate"));
  } catch {
    return null;
  }
  if (rows.length < (stride + 1) * height) return null;
  const plain = unfilter(rows, stride, height, Math.ceil(channels * bits / 8));
  if (!plain) return null;
  const samples = unpackSamples(plain, stride, { count: width * channels, height, bits });
  if (type !== 3) return { width, height, channels, bits, samples };
  const colors = new Uint8Array(width * height * 3);
  samples.forEach((index, at) => colors.set(
    chunks.PLTE.subarray(index * 3, index * 3 + 3), at * 3));
  return { width, height, channels: 3, bits: 8, samples: colors };
}
