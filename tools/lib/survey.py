"""What a dataset holds, and what training would do with it: --mode check."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import io
import math
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tools.lib import exif, geometry, run_folder, schedule
from tools.lib.cli import UserError, all_of, printable, say, warn, with_options
from tools.lib.dataset import (MOST, OTHER_SHAPE, UNCHECKED, ImageCheck, check_file, judging_mode,
                               list_images, read_files, remember_checks, split_by_side,
                               takes_pairs, types_of_files, with_sides)
from tools.lib.image_files import format_of, list_folder, list_tree
from tools.lib.image_types import ImageType, pair_of, split_columns
from tools.lib.images import ImageError, create_decoder, flatten
from tools.lib.inputs import MAX_COLOURS, Statistics
from tools.lib.label_metrics import nearest_classes
from tools.lib.stored import BITS_PER_SAMPLE, decode_any, narrow, read_stored, read_with
from tools.lib.tf1 import session_config, tf
from tools.lib.values import HELD, suggest_range

MAX_ROWS = 5  # that a table has for one property
MAX_NAMED = 20  # files or groups of them that a list names
PNG_CHANNELS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey + alpha", 6: "RGB + alpha"}
CHANNELS = {"1": "grey", "L": "grey", "F": "grey", "P": "palette", "CMYK": "CMYK",
            "LA": "grey + alpha", "La": "grey + alpha", "PA": "palette + alpha",
            "RGBA": "RGB + alpha", "RGBa": "RGB + alpha"}  # of Pillow's modes
MAX_SAMPLED, PIXELS_SAMPLED = 50, 20000  # images, and pixels of each, that values are told by
NAMED_CLASSES = 5  # of label maps, the most frequent
MIN_COLOURS = 3  # that look like classes: two are a drawing's
MIN_EMPTY = 0.001  # share of the values that are 0, from which on a line says so
BITS = {"1": 1, "I": 32, "F": 32}  # of Pillow's modes; others have 16 or 8

# --------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------


class Facts(NamedTuple):
    """What a file turned out to be."""

    check: ImageCheck
    format: str = ""  # such as "JPEG"
    channels: str = ""  # such as "grey + alpha"
    bits: int = 0  # of a channel
    frames: int = 1  # or pages
    values: tuple = ()  # the lowest and the highest: of 16 bits as stored, else as they are read
    digest: bytes = b""  # equal for the same bytes
    misfit: str = ""  # why a file that can be decoded is not what its side takes

    @property
    def size(self):
        """Width x height."""
        return f"{self.check.width}x{self.check.height}"


class Source(NamedTuple):
    """A folder of images."""

    letter: str  # A or B; "" where files hold both
    folder: str
    facts: dict  # path -> Facts

    @property
    def readable(self):
        """Path -> Facts of the images that can be read."""
        return {path: facts for path, facts in self.facts.items() if not facts.check.reason}


def describe_stored(pixels):
    """Channels and bits of pixels as their file stores them, as a dict."""
    channels = pixels.shape[2]
    return {"channels": {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels"),
            "bits": 8 * pixels.dtype.itemsize}


def read_header(contents):
    """The format, channels, bits and frames of an image file, as a dict; channels are "unknown"
    where Pillow cannot tell them."""
    from PIL import Image
    name = format_of(contents)
    found = {"format": {"webp": "WebP", "npy": "npy"}.get(name, name.upper()),
             "channels": "unknown", "bits": 8}
    if name in ("npy", "ppm"):  # Pillow reads neither as it is stored
        return {**found, **describe_stored(decode_any(contents, name).pixels)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata
            with Image.open(io.BytesIO(exif.separate_metadata(contents, name)[0]),
                            formats=[name.upper()]) as image:
                mode, frames = image.mode, getattr(image, "n_frames", 1)
                channels = CHANNELS.get(mode, "grey" if mode.startswith("I") else "RGB")
                bits = BITS.get(mode, 16 if "16" in mode else 8)
                has_key = "transparency" in image.info
                bits = max(getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (bits,)))
    except Exception:  # Pillow raises nearly everything; whether the file is usable others judge
        return found
    if name == "png":  # Pillow makes 8 bits of 16
        channels, bits = PNG_CHANNELS[contents[25]], contents[24]
    if has_key and not channels.endswith("alpha"):
        channels += " + alpha"
    return {**found, "channels": channels, "bits": bits, "frames": frames}


def look_at(path, decode, file_type=ImageType()):
    """The Facts of a file, which is read once. decode: from `create_decoder`, with the range;
    file_type: of `dataset.types_of_files`."""
    found = {}

    def note(contents):
        """What `check_file` asks of a decoder."""
        described = decode(contents)
        found.update(read_header(contents), values=described.values,
                     digest=hashlib.sha256(contents).digest())
        try:
            found["is_measured"] = file_type.check(contents)
        except ValueError as error:
            found["misfit"] = str(error)
        return described
    check = check_file(path, note)
    is_measured = found.pop("is_measured", True) and check.is_measured
    return Facts(check._replace(is_measured=is_measured), **found)


def judged(facts):
    """The ImageCheck of a file's Facts, as training has it."""
    if facts.check.reason or not facts.misfit:
        return facts.check
    return facts.check._replace(reason=facts.misfit, is_misfit=True)


def list_paths(folder, options):
    """The images of one of the folders."""
    if run_folder.from_folders(options):
        folders = {Path(other).resolve() for _, other in run_folder.list_sources(options)}
        return list_tree(folder, folders).images
    return [Path(folder)] if os.path.isfile(folder) else list_folder(folder).images


def read_sources(options):
    """The Sources of a command line. Every file is read, and remembered as checked."""
    named = run_folder.list_sources(options)
    paths = {folder: list_paths(folder, options) for _, folder in named}
    types = {folder: file_type for (_, folder), file_type in
             zip(named, types_of_files(len(named), options), strict=True)}
    type_of = {path: types[folder] for folder in paths for path in paths[folder]}
    decode = create_decoder(with_range=True)
    found = read_files([*type_of], lambda path: look_at(path, decode, type_of[path]))
    sources = []
    for flag, folder in named:
        number = sum(source.letter.startswith("A") for source in sources) + 1
        letter = {"--a_dir": f"A{number}" if len(options.a_dir or ()) > 1 else "A",
                  "--b_dir": "B"}.get(flag, "")
        facts = {path: found[path] for path in paths[folder]}
        if facts:
            remember_checks(folder, {path: judged(facts[path]) for path in facts}, types[folder])
        sources.append(Source(letter, folder, facts))
    return sources


# --------------------------------------------------------------------------------------------------
# What the images are
# --------------------------------------------------------------------------------------------------


def counted(count, noun):
    """Such as "1 image" or "2 images"."""
    return f"{count} {noun}{'s' * (count != 1)}"


def align(rows, numbers=(), indent=""):
    """Rows of texts as lines, in columns. numbers: those that end, not start, at one place."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [(indent + "  ".join(
        text.rjust(width) if place in numbers else text.ljust(width)
        for place, (text, width) in enumerate(zip(row, widths, strict=True)))).rstrip()
        for row in rows]


def say_list(title, lines):
    """Prints a title and the first of some lines."""
    if lines:
        say(f"\n{title}")
        for line in lines[:MAX_NAMED]:
            say(printable(line))
        if len(lines) > MAX_NAMED:
            say(f"  ... and {len(lines) - MAX_NAMED} more")


def value_kinds(facts):
    """Path -> text of the range of values that the images of its kind have. facts: path -> Facts.

    Kinds are images of one value, of less than half of the values that their bits allow, and
    others: of label maps, dark scans and blank images the first two tell.
    """
    kinds = collections.defaultdict(list)
    texts = {path: "none is finite" for path, found in facts.items() if math.isnan(found.values[0])}
    for path, found in facts.items():
        if path in texts:
            continue
        low, high = found.values
        is_whole = found.check.dtype in ("uint8", "uint16")
        scale = np.iinfo(found.check.dtype).max if is_whole else 0
        kinds[scale, 2 * (high - low) >= scale, low == high].append(path)
    for (_, wide, single), paths in kinds.items():
        low = f"{min(facts[path].values[0] for path in paths):.6g}"
        high = f"{max(facts[path].values[1] for path in paths):.6g}"
        text = f"{low} to {high}" + ("" if wide else ", less than half the range")
        if single:
            text = (f"{low}," if low == high else f"{low} to {high}, each") + " a single value"
        texts |= dict.fromkeys(paths, text)
    return texts


def list_properties(facts):
    """Property -> path -> text, of the images of a folder. facts: path -> Facts."""
    properties = {"format": {path: found.format + ", several frames" * (found.frames > 1)
                             for path, found in facts.items()}}
    for name in ("size", "channels", "bits"):
        properties[name] = {path: str(getattr(found, name)) for path, found in facts.items()}
    return {**properties, "values": value_kinds(facts)}


def size_text(num_bytes):
    """Such as "13.2 MB"."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.1f} kB"


def pixels_of(size):
    """Number of pixels of a text such as "512x256"."""
    return math.prod(map(int, size.split("x")))


def name_rest(name, texts):
    """The row for all values of a property but the most frequent ones."""
    text = f"{len(texts)} others"
    if name == "size":
        ordered = sorted(texts, key=pixels_of)
        text += f", {ordered[0]} to {ordered[-1]}"
    return text


def property_rows(name, counts, totals):
    """The table's rows for one property: the most frequent values and the rest. counts: text ->
    number for each folder; totals: of the images of each."""
    texts = sorted(dict.fromkeys(text for count in counts for text in count),
                   key=lambda text: [-count[text] for count in counts])
    rest = texts[MAX_ROWS:] if len(texts) > MAX_ROWS + 1 else []
    rows = [(text, [count[text] for count in counts]) for text in texts[:len(texts) - len(rest)]]
    if rest:
        rows.append((name_rest(name, rest), [sum(count[text] for text in rest)
                                             for count in counts]))
    titles = [name] + [""] * len(rows)
    return [[title, text, *("all" if number == total > 1 else str(number or "-")
                            for number, total in zip(numbers, totals, strict=True))]
            for title, (text, numbers) in zip(titles, rows, strict=False)]


def table_lines(sources):
    """What the images are, as lines: how many, and a table of their properties."""
    heads = []
    for source in sources:
        num_bytes = sum(facts.check.size for facts in source.facts.values())
        heads.append([*[source.letter] * bool(source.letter), str(source.folder),
                      counted(len(source.facts), "image"), size_text(num_bytes)])
    lines = align(heads, numbers=(len(heads[0]) - 2, len(heads[0]) - 1))
    readable = [source.readable for source in sources]
    if not any(readable):
        return lines
    found, totals = [list_properties(facts) for facts in readable], [*map(len, readable)]
    rows = [["", "", *(source.letter for source in sources)]] * bool(sources[0].letter)
    for name in found[0]:
        rows += property_rows(name, [collections.Counter(properties[name].values())
                                     for properties in found], totals)
    return [*lines, "", *align(rows, numbers=range(2, 2 + len(sources)))]


def find_usual(texts):
    """What at least nine tenths, but not all, of some texts are; None where there is no such."""
    (usual, count), = collections.Counter(texts).most_common(1)
    return usual if MOST * len(texts) <= count < len(texts) else None


def name_unlike(facts):
    """Lines that name the images that differ from nine tenths of those of a folder, and how. facts:
    path -> Facts."""
    if not facts:
        return []
    properties, unlike = list_properties(facts), collections.defaultdict(list)
    properties["bits"] = {path: counted(int(text), "bit")
                          for path, text in properties["bits"].items()}
    properties["values"] = {path: f"nothing but the value {found.values[0]}"
                            if found.values[0] == found.values[1] else "usual"
                            for path, found in facts.items()}
    ratios = {path: found.check.ratio for path, found in facts.items()}
    middle = sorted(ratios.values())[len(ratios) // 2]
    if find_usual([*properties["size"].values()]) is None:  # of any size, but of one shape
        properties["size"] = {path: "usual" if abs(ratio / middle - 1) <= OTHER_SHAPE else
                              f"{facts[path].size}, where most are {middle:.3g} times as wide as "
                              "high" for path, ratio in ratios.items()}
    for texts in properties.values():
        usual = find_usual([*texts.values()])
        for path, text in texts.items():
            if usual is not None and text != usual:
                unlike[path].append(text + f" (most: {usual})" * (usual != "usual"))
    return align([[f"  {path}", ", ".join(texts)] for path, texts in unlike.items()]) \
        if unlike else []


def name_duplicates(sources):
    """Lines that name the files with the same bytes, a line for each group."""
    groups = collections.defaultdict(list)
    for source in sources:
        for path, facts in source.readable.items():
            groups[facts.digest].append(str(path))
    return ["  " + "  ".join(paths[:MAX_ROWS]) + f"  and {len(paths) - MAX_ROWS} more"
            * (len(paths) > MAX_ROWS) for paths in groups.values() if len(paths) > 1]


# --------------------------------------------------------------------------------------------------
# What training does with them
# --------------------------------------------------------------------------------------------------


def find_windows(shapes, sizing):
    """For images of each shape (height, width): what they are scaled to and what the network sees
    of that, each [2]."""
    with tf.Graph().as_default() as graph:
        shape = tf.placeholder(tf.int32, [2])
        window = geometry.choose_window(shape, sizing)
        with tf.Session(graph=graph, config=session_config()) as sess:
            run = sess.make_callable([window.scaled, window.size], [shape])
            return [run(list(shape)) for shape in shapes]


def percent(share):
    """A share as text: "" for nothing, "<1%" for very little."""
    return "" if share <= 0 else f"{share:.0%}" if share >= 0.005 else "<1%"


def describe_stretch(shape, scaled, aspect_ratio):
    """How the shape of an image changes where it is scaled, beyond what --aspect_ratio asks for; ""
    where it hardly does."""
    change = shape[1] / shape[0] / (scaled[1] / scaled[0] * aspect_ratio)
    if abs(math.log(change)) <= math.log(1 + OTHER_SHAPE):
        return ""
    return f"{max(change, 1 / change):.2g} times {'narrower' if change > 1 else 'flatter'}"


def size_rows(counts, sizing, aspect_ratio, titles):
    """A table of what becomes of images of each size, without the columns that are empty. counts:
    (height, width) -> number of images; sizing: geometry.Sizing; titles: of the columns of the size
    and of what the network sees."""
    rows = [[titles[0], "images", "scaled to", titles[1], "cut off", "mirrored border", "shape"]]
    most = counts.most_common(MAX_ROWS)
    for (shape, count), (scaled, size) in zip(most, find_windows([shape for shape, _ in most],
                                                                 sizing), strict=True):
        seen = math.prod(map(min, scaled, size))
        sizes = [f"{width}x{height}" for height, width in (shape, scaled, size)]
        rows.append([sizes[0], str(count), sizes[1] if sizes[1] != sizes[0] else "not scaled",
                     sizes[2] if seen < math.prod(scaled) or seen < math.prod(size) else "",
                     percent(1 - seen / math.prod(scaled)), percent(1 - seen / math.prod(size)),
                     describe_stretch(shape, scaled, aspect_ratio)])
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    rows = [[*row] for row in zip(*columns, strict=True)]
    rest = len(counts) - len(most)
    if rest:
        number = sum(counts.values()) - sum(count for _, count in most)
        rows.append([f"{rest} others", str(number), *[""] * (len(rows[0]) - 2)])
    return rows


def describe_pairs(count, options):
    """What the images are to training or test."""
    if run_folder.from_folders(options):
        if options.no_targets:
            return f"{counted(count, 'image')}; inputs without targets"
        letters = "BA" if options.which_direction == "BtoA" else "AB"
        names = [f"A{number}" for number in range(1, len(options.a_dir) + 1)]
        inputs = f"{all_of(names)} are" if len(names) > 1 else f"{letters[0]} is"
        return f"{counted(count, 'pair')}; {inputs} the input, {letters[1]} the target"
    if not takes_pairs(options):
        parts = ["lightness", "colour"]
        if options.lab_colorization:
            parts = parts[::-1] if options.which_direction == "BtoA" else parts
            use = f"the input is {parts[0]}" + f", the target {parts[1]}" * (not options.no_targets)
        else:
            use = "inputs without targets"
        return f"{counted(count, 'single image')}; {use}"
    halves = ["the left half (A)", "the right half (B)"]
    first, second = halves[::-1] if options.which_direction == "BtoA" else halves
    return f"{counted(count, 'pair')} side by side; {first} is the input, {second} the target"


def describe_channels(options):
    """The channels at the network's ends."""
    inputs, targets = (side.channels for side in pair_of(options)[:2])
    return f"{inputs} of the input" + f", {targets} of the target" * (not options.no_targets)


def read_half(path, side, letter, options):
    """A file's pixels as its side, "a" or "b", has them: of label maps those of the files, of
    others as `Stored`. Raises ImageError."""
    if side.kind == "labels" and not takes_pairs(options):
        return read_with(path, side.read)
    if side.kind == "labels":
        return read_with(path, lambda contents: dict(pair_of(options).read_labels(contents))[side])
    stored = read_stored(path)
    if takes_pairs(options):
        return stored._replace(pixels=split_columns(stored.pixels, 2)["ab".index(letter)])
    return stored


def sample_halves(side, letter, paths, options):
    """Yields `read_half` of some of these images that can be read, evenly spaced."""
    for path in paths[::-(-len(paths) // MAX_SAMPLED)]:
        with contextlib.suppress(ImageError):
            yield read_half(path, side, letter, options)


def sample_values(side, letter, paths, options):
    """Some of the values of `sample_halves`, [n]."""
    samples = [np.zeros([0], side.dtype)]
    for stored in sample_halves(side, letter, paths, options):
        values = narrow(stored.pixels, side.dtype).ravel()
        samples.append(values[::-(-len(values) // PIXELS_SAMPLED)])
    return np.concatenate(samples)


def describe_values(side, letter, paths, options):
    """What --a_range and --a_ignore do with the values of A's images, or those of B, and what suits
    them, as texts. side: ImageType; letter: "a" or "b"; paths: of the images."""
    values, flag = sample_values(side, letter, paths, options), f"--{letter}_ignore"
    parts = [f"{np.dtype(side.dtype).name}, {side.low:g} to {side.high:g} in the network"]
    if not values.size:
        return parts
    missing = ~np.isfinite(values) | np.isin(values, side.ignore)
    if missing.any() or side.ignore:
        parts.append(f"{missing.mean():.1%} of the pixels have no measurement")
    known = values[~missing]
    if known.size:
        outside = ((known < side.low) | (known > side.high)).mean()
        if outside:
            parts.append(f"{outside:.2%} of the values lie outside and are clipped")
        empty = (known == 0).mean()
        if 0 not in side.ignore and empty > MIN_EMPTY:
            parts.append(f"{empty:.1%} of the values are 0: where that stands for no measurement, "
                         f"give {flag} 0")
            known = known[known != 0]
    if not getattr(options, f"{letter}_range") and known.size:
        low, high = suggest_range(known)
        parts.append(f"--{letter}_range {low:g} {high:g} holds {HELD} % of them")
    return parts


def count_classes(pixels, side):
    """The pixels of each class, and how many are ignored. pixels: of a file, an array; side:
    LabelMap."""
    classes = pixels[..., 0].astype(np.int64) if side.is_drawn else \
        nearest_classes(pixels, side.labels.colours)
    is_ignored = np.isin(classes, side.ignore)
    counts = np.bincount(classes[~is_ignored], minlength=len(side.names))
    return counts, int(is_ignored.sum())


def describe_labels(side, letter, paths, options):
    """What classes the images of a side have, as texts. side: LabelMap; the rest: as in
    `describe_values`."""
    counts, ignored = np.zeros(len(side.names), np.int64), 0
    for pixels in sample_halves(side, letter, paths, options):
        found = count_classes(pixels, side)
        counts, ignored = counts + found[0], ignored + found[1]
    total = max(counts.sum(), 1)
    most = [f"{side.names[place]} ({counts[place] / total:.1%})"
            for place in np.argsort(-counts, kind="stable")[:NAMED_CLASSES] if counts[place]]
    texts = [f"{len(side.names)} classes, most frequently {', '.join(most)}"]
    absent = [name for place, name in enumerate(side.names)
              if not counts[place] and place not in side.ignore]
    if absent:
        names = absent[:MAX_NAMED] + [f"{len(absent) - MAX_NAMED} others"] \
            * (len(absent) > MAX_NAMED)
        text = f"{all_of(names)} {'do' if len(absent) > 1 else 'does'} not occur"
        last = int(counts.nonzero()[0].max(initial=0))
        if side.is_drawn and side.names[-1] in absent and not side.ignore:
            text += f": --{letter}_labels {last + 1} is enough for what does"
        texts.append(text)
    if ignored:
        texts.append(f"{ignored / (total + ignored):.1%} of the pixels are ignored")
    return texts


def suggest_labels(side, letter, paths, options):
    """A text where the images of a side look like label maps, "" where they do not."""
    statistics, is_index, highest = Statistics(), True, 0
    for stored in sample_halves(side, letter, paths, options):
        if stored.pixels.dtype != np.uint8:
            return ""
        is_index = is_index and (stored.palette is not None or stored.pixels.shape[2] == 1)
        highest = max(highest, int(stored.pixels.max()))
        statistics.add([stored.pixels if stored.palette is not None
                        else flatten(stored).pixels])
        if len(statistics.colours) > MAX_COLOURS:
            return ""
    count, flag = len(statistics.colours), f"--{letter}_labels"
    if not statistics.has_few_colours() or count < MIN_COLOURS:
        return ""
    if is_index and highest < min(2 * count, MAX_COLOURS):
        return f"{count} values in areas, 0 to {highest}, look like classes: {flag} " \
            f"{highest + 1} gives each a channel"
    return "" if statistics.grey else f"{count} colours in areas look like classes: {flag} with " \
        "a file that lists them gives each a channel"


def value_rows(found, options):
    """What there is to say of each side that holds values or label maps, or looks so, as rows.
    found: dataset.ImageList."""
    pair, rows = pair_of(options), []
    sides = (pair.inputs, pair.targets)
    describe = {"values": describe_values, "labels": describe_labels,
                "images": lambda *arguments: [*filter(None, [suggest_labels(*arguments)])]}
    for letter, side, paths in zip("ab", sides if options.which_direction == "AtoB"
                                   else sides[::-1], split_by_side(found.examples, options),
                                   strict=True):
        is_used = not options.no_targets or side is pair.inputs
        if is_used and paths and not options.lab_colorization:
            title = f"{'values' if side.kind == 'values' else 'labels'} of {letter.upper()}"
            for text in describe[side.kind](side, letter, paths, options):
                rows.append([title, text])
                title = ""
    return rows


def describe_epoch(count, options):
    """How many steps training takes."""
    step_size = min(schedule.examples_per_step(options), count)
    steps = schedule.steps_per_epoch(count, step_size)
    text = f"{counted(steps, 'step')} of {counted(step_size, 'image')}"
    if count % step_size:
        text += f", the last one of {count % step_size}"
    stop = schedule.find_stop_step(options, 0, steps)
    if stop < schedule.ENDLESS:
        text += f"; training ends after {counted(stop, 'step')}, {stop / steps:.3g} epochs"
    return text


def plan_lines(found, sources, options, multiple):
    """What training, or test, does with the images, as lines. found: dataset.ImageList; multiple:
    of what sides the network takes."""
    training, count = options.mode == "train", len(found.examples)
    facts, halves = sources[0].facts, 2 if takes_pairs(options) else 1
    checks = [facts[path].check for path in found.paths if path in facts]
    counts = collections.Counter((check.height, check.width // halves) for check in checks)
    choose_sizing = geometry.training_sizing if training else geometry.test_sizing
    options = with_sides(options, found.sides)
    rows = [["images", describe_pairs(count, options)], ["channels", describe_channels(options)],
            *value_rows(found, options)]
    if training:
        rows.append(["epoch", describe_epoch(count, options)])
    unused = [f"{len(source.facts) - count} of {counted(len(source.facts), 'image')}"
              + f" of {source.letter}" * bool(source.letter)
              for source in sources if len(source.facts) > count]
    if unused:
        rows.append(["not used", ", ".join(unused)])
    titles = ["half" if halves == 2 else "size", "random crop" if training else "in the network"]
    return [f"In --mode {options.mode}:", *align(rows, indent="  "), "",
            *align(size_rows(counts, choose_sizing(options, multiple), options.aspect_ratio,
                             titles), numbers=(1,), indent="  ")]


# --------------------------------------------------------------------------------------------------
# The mode
# --------------------------------------------------------------------------------------------------


def judge(sources, options):
    """The dataset.ImageList that a mode would use, which warns of what it would not; and the errors
    with which it would refuse: one is None or empty."""
    checks = {path: judged(facts) for source in sources for path, facts in source.facts.items()}
    asked, errors, found = set(), [], None

    def look(_folder, paths, _file_type):
        """What has been found out already."""
        asked.update(paths)
        return {path: checks.get(path, UNCHECKED) for path in paths}
    try:
        found = list_images(options, look, errors.append)
    except UserError as error:
        errors.append(error)
    for path in checks.keys() - asked:  # without a partner, or beyond --max_images
        if checks[path].reason:
            warn(f"{printable(path)} cannot be used: {checks[path].reason}")
    return found, errors


def survey(options, multiple):
    """Reads every image and prints what there is, what differs, and what training or, with
    --no_targets, test would do; returns the exit code. multiple: of what sides the network takes.

    Raises UserError with the line with which that mode would refuse the images.
    """
    options = with_options(options, mode=judging_mode(options))
    sources = read_sources(options)
    if any(source.facts for source in sources):
        for line in table_lines(sources):
            say(printable(line))
    say_list("Unlike nine tenths of the others:",
             [line for source in sources for line in name_unlike(source.readable)])
    say_list("Duplicates, the same bytes in each line:", name_duplicates(sources))
    found, errors = judge(sources, options)
    if errors:
        raise errors[0]
    say("")
    for line in plan_lines(found, sources, options, multiple):
        say(printable(line))
    return 0
