"""Which way up an image file is: EXIF's orientation, in arrays and in the graph; files without the
metadata that their pixels do not need.

EXIF 2.32 (CIPA DC-008-2019), 4.6.2 and 4.6.4; PNG 3rd edition, 11.3.4.5 (eXIf). Whatever is wrong
in a file's metadata, its pixels are still read: as they are stored where no orientation is found.
"""

from __future__ import annotations

import functools
import struct

import numpy as np

from tools.lib.tf1 import tf

EXIF_START = b"Exif\0\0"
EXIF_SEGMENT = (0xFFE1, *struct.unpack(">3H", EXIF_START))  # APP1, without its size
ORIENTATION_TAG = 0x0112
# of the types of the tag's value BYTE, SHORT and LONG: the lowest byte, in big-endian order
LOWEST_BYTE = {1: 0, 3: 1, 4: 3}
TURNS = {  # orientation -> whether height and width are exchanged, and then which axes are reversed
    1: (False, []), 2: (False, [1]), 3: (False, [0, 1]), 4: (False, [0]),
    5: (True, []), 6: (True, [1]), 7: (True, [0, 1]), 8: (True, [0])}
PNG_HEADER_SIZE = 8  # of the file; and of a chunk: its length and its name
PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # chunks that pixels depend on
JPEG_KEPT = (0xE0, 0xEE)  # segments APP0 (JFIF) and APP14 (Adobe's colour transform)

# --------------------------------------------------------------------------------------------------
# In arrays
# --------------------------------------------------------------------------------------------------


def find_orientation(tiff):
    """Orientation 1..8 of the bytes of a TIFF structure, which an EXIF block is too, and the place
    of its byte; 1 and None where there is none. A structure that is cut short is read as far as it
    goes."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(tiff[:4]))
    try:
        start, = struct.unpack_from(f"{order or '<'}I", tiff, 4)
        count, = struct.unpack_from(f"{order or '<'}H", tiff, start)
    except struct.error:
        return 1, None
    end = min(start + 2 + 12 * count, len(tiff) - 11) if order else 0
    for place in range(start + 2, end, 12):
        tag, kind = struct.unpack_from(f"{order}2H", tiff, place)
        if tag == ORIENTATION_TAG and kind in LOWEST_BYTE:
            value_at = place + 8 + (LOWEST_BYTE[kind] if order == ">" else 0)
            return (tiff[value_at], value_at) if tiff[value_at] in TURNS else (1, None)
    return 1, None


def png_chunks(contents):
    """Yields name and bytes, with length and check, of a PNG file's chunks."""
    place = PNG_HEADER_SIZE
    while place < len(contents):
        end = place + 12 + int.from_bytes(contents[place:place + 4], "big")
        yield contents[place + 4:place + 8], contents[place:end]
        place = end


def separate_png(contents):
    """A PNG file without metadata, and its EXIF block, which stands before its pixels. Raises
    ValueError for a file without its end, which Pillow may take."""
    kept, exif = [contents[:PNG_HEADER_SIZE]], b""
    for name, chunk in png_chunks(contents):
        if name in PNG_PIXELS:
            kept.append(chunk)
        elif name == b"eXIf" and not exif and not any(part[4:8] == b"IDAT" for part in kept[1:]):
            exif = chunk[8:-4]
        if name == b"IEND" and len(chunk) >= 12:
            return b"".join(kept), exif
    raise ValueError("truncated")


def separate_jpeg(contents):
    """A JPEG file without metadata, and its EXIF block."""
    kept, exif, place = [contents[:2]], b"", 2
    while contents[place:place + 1] == b"\xff":
        marker = contents[place + 1] if place + 1 < len(contents) else 0
        if not (0xE0 <= marker <= 0xEF or marker in (0xFE, 0xFF)):  # APP0..APP15, comment, fill
            break
        size = int.from_bytes(contents[place + 2:place + 4], "big") + 2 if marker != 0xFF else 1
        segment = contents[place:place + size]
        if marker == 0xE1 and segment[4:10] == EXIF_START and not exif:
            exif = segment[10:]
        if marker in JPEG_KEPT:
            kept.append(segment)
        place += max(size, 2) if marker != 0xFF else 1
    return b"".join([*kept, contents[place:]]), exif


def separate_tiff(contents):
    """A TIFF file that says orientation 1, and the file: it is its own EXIF block. Some versions of
    Pillow turn an image when they load it, others do not."""
    _, place = find_orientation(contents)
    if place is None:
        return contents, b""
    return contents[:place] + b"\1" + contents[place + 1:], contents


def separate_webp(contents):
    """A WebP file, as it is, and its EXIF block (WebP container specification, RIFF)."""
    place, exif = 12, b""
    while place + 8 <= len(contents) and not exif:
        name, size = contents[place:place + 4], int.from_bytes(contents[place + 4:place + 8],
                                                               "little")
        if name == b"EXIF":
            exif = contents[place + 8:place + 8 + size].removeprefix(EXIF_START)
        place += 8 + size + size % 2
    return contents, exif


SEPARATORS = {"png": separate_png, "jpeg": separate_jpeg, "tiff": separate_tiff,
              "webp": separate_webp}


def separate_metadata(contents, name):
    """A file of this format without the metadata that could keep it from being read, and its
    orientation 1..8."""
    contents, exif = SEPARATORS[name](contents) if name in SEPARATORS else (contents, b"")
    return contents, find_orientation(exif)[0]


def turn_array(pixels, orientation):
    """[height, width, ...] as stored -> upright."""
    transposed, reversed_axes = TURNS[orientation]
    upright = pixels.swapaxes(0, 1) if transposed else pixels
    return np.ascontiguousarray(np.flip(upright, reversed_axes))


# --------------------------------------------------------------------------------------------------
# In the graph
# --------------------------------------------------------------------------------------------------


def byte_values(contents, place, count):
    """The bytes [count] int32 of a string from a place on; it must be long enough."""
    raw = tf.io.decode_raw(tf.strings.substr(contents, place, count), tf.uint8)
    return tf.cast(tf.reshape(raw, [count]), tf.int32)


def from_big_endian(values, count):
    """Whole number [] of its bytes [count] int32; what int32 does not hold becomes nearly its
    largest."""
    weights = tf.constant([256**power for power in reversed(range(count))], tf.int64)
    number = tf.reduce_sum(tf.cast(tf.reshape(values, [count]), tf.int64) * weights)
    return tf.cast(tf.minimum(number, 2**31 - 2**20), tf.int32)


def scan_png(contents):
    """What stands before a PNG file's pixels: its EXIF block [] string, "" where there is none, and
    whether it names a transparent colour (tRNS) [] bool."""
    length = tf.strings.length(contents)

    def is_before_pixels(place, *_):
        """Whether a chunk begins here that is not IDAT."""
        inside = place + 12 <= length
        name = tf.strings.substr(contents, tf.where(inside, place + 4, 0), 4)
        return inside & tf.not_equal(name, b"IDAT")

    def look(place, exif_at, exif_size, has_key):
        """The next chunk's place, and what is found up to there."""
        size = from_big_endian(byte_values(contents, place, 4), 4)
        name = tf.strings.substr(contents, place + 4, 4)
        is_exif = tf.equal(name, b"eXIf") & tf.equal(exif_size, 0)
        return (place + 12 + tf.minimum(size, length), tf.where(is_exif, place + 8, exif_at),
                tf.where(is_exif, size, exif_size), has_key | tf.equal(name, b"tRNS"))

    _, exif_at, exif_size, has_key = tf.while_loop(
        is_before_pixels, look, [PNG_HEADER_SIZE, 0, 0, tf.constant(False)])
    return tf.strings.substr(contents, tf.minimum(exif_at, length), exif_size), has_key


def scan_jpeg(contents):
    """A JPEG file's EXIF block [] string, "" where there is none."""
    length = tf.strings.length(contents)

    def is_open(place, exif_size):
        """Whether a segment begins here, and none was EXIF."""
        return (place + 10 <= length) & tf.equal(exif_size, 0)

    def look(place, _):
        """The next segment's place, or that of the EXIF block and its size."""
        raw = tf.io.decode_raw(tf.strings.substr(contents, place, 10), tf.uint16,
                               little_endian=False)
        marker, size, *start = tf.unstack(tf.cast(tf.reshape(raw, [5]), tf.int32))
        is_exif = functools.reduce(tf.logical_and, map(tf.equal, [marker, *start], EXIF_SEGMENT))
        is_metadata = ((marker >= 0xFFE0) & (marker <= 0xFFEF)) | tf.equal(marker, 0xFFFE)
        following = tf.where(is_metadata, place + 2 + size, length)
        following = tf.where(tf.equal(marker, 0xFFFF), place + 1, following)  # a byte that fills
        return tf.where(is_exif, place + 10, following), tf.where(is_exif, size - 8, 0)

    place, exif_size = tf.while_loop(is_open, look, [2, 0])
    return tf.strings.substr(contents, tf.minimum(place, length), tf.maximum(exif_size, 0))


def read_orientation(exif):
    """`find_orientation` of an EXIF block [] string: [] int32 1..8."""
    data = tf.cast(tf.io.decode_raw(exif, tf.uint8), tf.int32)
    data = tf.concat([data, tf.zeros([12], tf.int32)], axis=0)  # so that the header can be read
    size = tf.strings.length(exif)
    is_little = tf.equal(tf.strings.substr(exif, 0, 4), b"II*\0")
    is_valid = is_little | tf.equal(tf.strings.substr(exif, 0, 4), b"MM\0*")

    def ordered(values):
        """Bytes along the last axis, big-endian."""
        return tf.where(is_little, tf.reverse(values, [-1]), values)

    start = tf.minimum(from_big_endian(ordered(data[4:8]), 4), size) + 2
    count = from_big_endian(ordered(data[start - 2:start]), 2)
    count = tf.clip_by_value((size - start) // 12, 0, count)
    entries = tf.reshape(data[start:start + 12 * count], [-1, 12])
    tags, kinds = (values[:, 0] * 256 + values[:, 1]
                   for values in (ordered(entries[:, :2]), ordered(entries[:, 2:4])))
    is_known = tf.reduce_any(tf.equal(kinds[:, tf.newaxis], [*LOWEST_BYTE]), axis=1)
    found = tf.reshape(tf.where(tf.equal(tags, ORIENTATION_TAG) & is_known), [-1])[:1]
    big_endian = tf.constant([LOWEST_BYTE.get(kind, 0) for kind in range(5)])
    lowest = tf.where(is_little, tf.zeros_like(big_endian), big_endian)
    place = tf.gather(lowest, tf.gather(kinds, found))
    value = tf.reduce_sum(tf.gather(entries, found)[:, 8:] * tf.one_hot(place, 4, dtype=tf.int32))
    return tf.where(is_valid & (value >= 1) & (value <= len(TURNS)), value, 1)


def transpose(pixels):
    """[height, width, channels] -> [width, height, channels]. tf.transpose of uint8 lets programs
    that load an export print an error line about oneDNN."""
    height, width, channels = tf.unstack(tf.shape(pixels))
    places = tf.range(width)[:, tf.newaxis] + tf.range(height) * width  # [width, height]
    return tf.gather(tf.reshape(pixels, [height * width, channels]), places)


def turn(pixels, exif):
    """[height, width, channels] as stored -> upright. exif: the file's EXIF block [] string."""
    def turned(orientation):
        """The pixels of one orientation."""
        transposed, reversed_axes = TURNS[orientation]
        upright = transpose(pixels) if transposed else pixels
        return tf.reverse(upright, reversed_axes) if reversed_axes else tf.identity(upright)

    def turn_by_orientation():
        """By what the EXIF block says."""
        branches = [lambda number=number: turned(number) for number in TURNS]
        return tf.switch_case(read_orientation(exif) - 1, branches)

    return tf.cond(tf.not_equal(exif, b""), turn_by_orientation, lambda: pixels)


def turn_jpeg(pixels, contents):
    """`turn` of a JPEG file [] string. What has no metadata, nothing between its JFIF header and
    its first table, is not searched: that takes a sixth of the time of decoding a small image."""
    is_plain = tf.equal(tf.strings.substr(contents, 0, 6), b"\xff\xd8\xff\xe0\0\x10") \
        & tf.equal(tf.strings.substr(contents, tf.minimum(20, tf.strings.length(contents)), 2),
                   b"\xff\xdb")
    return tf.cond(is_plain, lambda: pixels, lambda: turn(pixels, scan_jpeg(contents)))
