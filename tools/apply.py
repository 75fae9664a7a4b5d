#!/usr/bin/env python3
"""Translates images with a model: one, several, folders, or the frames of a film.

    python tools/apply.py --model facades_train --input label.png --output photo.png
    python tools/apply.py --model facades_train --input labels --output photos
    python tools/apply.py --model facades_export --input "frames/frame_%04d.png" --output results

The model is a training folder, a checkpoint, a .pict file or any format that `pix2pix.py --mode
export` writes. Each image is translated by itself; results keep name and size.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import glob
import importlib.util
import itertools
import math
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.lib import cli

if __name__ == "__main__":
    cli.require("numpy", "isal", "tensorflow")
    cli.use_huge_pages()

from pix2pix import load_model
from tools.lib import provenance, tiling
from tools.lib.checkpoints import add_choice, choose_checkpoint, list_checkpoints
from tools.lib.cli import Options, UserError, describe_error, printable, say
from tools.lib.dataset import MOST, OTHER_SHAPE, PAIR_RATIO, is_alike
from tools.lib.files import describe_missing, natural_key, unique_names, write_atomic
from tools.lib.image_files import (
    EXTENSIONS, FORMATS, GRAPH_FORMATS, FolderContents, describe_no_images, format_of, is_hidden,
    list_tree, other_kind, report_others)
from tools.lib.images import (
    ImageError, create_shape_reader, decode_pixels, encode_image, report_deep)
from tools.lib.models import ONE_SIZE, find_export, make_readable
from tools.lib.run_folder import find_model
from tools.lib.stored import read_with
from tools.lib.tf1 import session_config, tf

REPORT_FREQ = 100  # images between two lines
LARGE_MEMORY = 4e9  # bytes, from which on a line warns
FILE_TYPES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".npy": "npy"}  # of --output
NUMBER = re.compile(r"%(?:0(\d+))?d")  # in the names of frames, as ffmpeg writes them
EXAMPLES = """\
  python tools/apply.py --model facades_train --input label.png --output photo.png
  python tools/apply.py --model facades_train --input labels --output photos
  python tools/apply.py --model facades_export --input "frames/frame_%04d.png" --output results"""

# --------------------------------------------------------------------------------------------------
# Inputs
# --------------------------------------------------------------------------------------------------


def find_frames(pattern, any_width=False):
    """The files that a name such as frame_%04d.png stands for. any_width: with any number of
    digits."""
    text, *rest = NUMBER.split(pattern.name)
    expression = re.escape(text) + "".join(
        rf"\d{{{1 if any_width else width or 1},}}{re.escape(text)}"
        for width, text in zip(rest[::2], rest[1::2], strict=True))
    return [path for path in pattern.parent.iterdir() if re.fullmatch(expression, path.name)] \
        if rest and pattern.parent.is_dir() else []


def match_pattern(pattern, left_out):
    """The folder that a pattern such as photos/*.jpg begins with, and the FolderContents that it
    matches."""
    fixed = itertools.takewhile(lambda part: not set(part) & set("*?["), Path(pattern).parts)
    root, images, others, skipped, seen = Path(*fixed), [], collections.Counter(), set(), set()
    if left_out in (root.resolve(), *root.resolve().parents):
        left_out = None
    names_in = functools.cache(os.listdir)
    for path in sorted(map(Path, glob.glob(pattern, recursive=True)),
                       key=lambda path: (len(path.parts), path.parts)):
        place = path.parent.resolve() / path.name
        if place in seen or is_hidden(path.name) or path.is_dir() and "**" in pattern:
            continue  # a link may lead back; ** matches what is in folders too
        seen.add(place)
        if left_out and left_out in (path.resolve(), *path.resolve().parents):
            skipped.add(left_out)
        elif path.is_dir():
            contents = list_tree(path, {left_out})
            images += contents.images
            others.update(contents.others)
            skipped.update(contents.folders)
        elif (kind := other_kind(path, names_in(path.parent))) is None:
            images.append(path)
        elif path.is_file():  # not the end of links that lead round in circles
            others[kind] += 1
    return root, FolderContents(images, dict(others), [*skipped])


def list_input(text, left_out):
    """The folder that an --input is in or names, and the FolderContents that it stands for. Raises
    UserError."""
    path = Path(text)
    if path.is_dir():
        root, contents = path, list_tree(path, {left_out})
    elif path.exists():
        root, contents = path.parent, FolderContents([path], {}, [])
    elif frames := find_frames(path):
        root, contents = path.parent, FolderContents(frames, {}, [])
        others = len(find_frames(path, any_width=True)) - len(frames)
        if others:
            cli.warn(printable(f"--input {text} matches {len(frames)} files; {others} more have "
                               f"fewer digits: {NUMBER.sub('%d', path.name)} matches them too"))
    else:
        root, contents = match_pattern(text, left_out)
        if not contents.images and not contents.others:
            is_pattern = root != path or NUMBER.search(path.name)
            others = find_frames(path, any_width=True)
            remedy = f"{len(others)} have another number of digits, give " \
                f"{NUMBER.sub('%d', path.name)}" if others else "check the path"
            raise UserError(f"--input {text} " + (f"matches no file: {remedy}" if is_pattern
                                                  else f"does not exist: {describe_missing(path)}"))
    if not contents.images:
        raise UserError(f"--input {describe_no_images(text, contents)}")
    return root, contents


class Input(NamedTuple):
    """An image to translate."""

    path: Path
    place: Path  # below the folder that all have in common


def list_inputs(texts, output):
    """The Inputs of --input, in the order of their names, and their common folder; reports what is
    not used. output: --output, which is not read even if it is in a folder of --input. Raises
    UserError."""
    output, roots, paths = Path(output).resolve(), [], {}
    for text in texts:
        try:
            root, contents = list_input(text, output)
        except OSError as error:
            raise UserError(f"--input {text} cannot be read ({error.strerror}): choose another") \
                from error
        report_others(text, contents)
        roots.append(os.path.abspath(root))
        paths |= {os.path.abspath(path): path for path in contents.images}
    try:
        folder = Path(os.path.commonpath(roots))
    except ValueError:  # Windows
        raise UserError("--input is on several drives: give one at a time") from None
    inputs = [Input(path, Path(absolute).relative_to(folder)) for absolute, path in paths.items()]
    return sorted(inputs, key=lambda image: natural_key(image.place)), folder


# --------------------------------------------------------------------------------------------------
# Results
# --------------------------------------------------------------------------------------------------


class Job(NamedTuple):
    """An image to translate and where its result goes."""

    path: Path
    result: Path  # a file's path, without extension where `filetype` is None
    filetype: str | None  # "png" or "jpeg"; None: as the model gives it


def possible_results(job):
    """The files that may hold a Job's result."""
    if job.filetype:
        return [job.result]
    return [job.result.with_name(f"{job.result.name}{row.extensions[0]}")
            for name, row in FORMATS.items() if name in GRAPH_FORMATS]


def is_folder(text):
    """Whether --output is a folder: one that exists, a path that ends with a slash, or without the
    extension of an image. Raises UserError."""
    path = Path(text)
    slashes = tuple(filter(None, (os.sep, os.altsep)))
    if path.is_dir() or text.endswith(slashes) and not path.exists():
        return True
    suffix = path.suffix.lower()
    if suffix in FILE_TYPES and not text.endswith(slashes):
        return False
    if path.exists():
        raise UserError(f"--output {text} is a file: give a folder")
    if suffix in EXTENSIONS:
        raise UserError(f"--output {text}: results are PNG or JPEG files: give "
                        f"{path.with_suffix('.png')}, or {text}/ for a folder")
    return True


def check_places(jobs, folder, options):
    """Raises UserError where results would not have a place of their own. folder: of the inputs."""
    output = Path(options.output)
    existing = next(path for path in (output, *output.absolute().parents) if path.exists())
    if existing != output and not existing.is_dir():
        raise UserError(f"--output {options.output} is inside a file, {existing}: give a folder")
    if jobs[0].filetype is None and output.resolve() == folder.resolve():
        raise UserError(f"--output {options.output} is the folder of --input too: choose another")
    inputs = {job.path.resolve() for job in jobs}
    for result in itertools.chain.from_iterable(map(possible_results, jobs)):
        if result.resolve() in inputs:
            raise UserError(f"--output {options.output} would replace {result}, an image of "
                            "--input: choose another")


def list_jobs(options):
    """The Jobs of a command line. Raises UserError."""
    for name in ("model", "input", "output"):  # Path("") is the folder that one is in
        if "" in (getattr(options, name), *getattr(options, name)):
            raise UserError(f"--{name} is empty: give a path")
    inputs, folder = list_inputs(options.input, options.output)
    output = Path(options.output)
    if not is_folder(options.output):
        if len(inputs) > 1:
            raise UserError(f"--output {options.output} is a file, and there are {len(inputs)} "
                            f"images: give a folder, such as {output.with_suffix('')}/")
        jobs = [Job(inputs[0].path, output, FILE_TYPES[output.suffix.lower()])]
    else:
        by_folder, names = collections.defaultdict(list), {}
        for image in inputs:
            by_folder[image.place.parent].append(image.place)
        for places in by_folder.values():
            names |= zip(places, unique_names(places), strict=True)
        jobs = [Job(image.path, output / image.place.parent / names[image.place], None)
                for image in inputs]
    check_places(jobs, folder, options)
    return jobs


def find_model_files(model):
    """The files that hold a model. Raises UserError."""
    export = find_export(model)
    if export is None:
        checkpoint = find_model(model)
        prefixes = list_checkpoints(checkpoint) if os.path.isdir(checkpoint) else [checkpoint]
        indexes = [Path(f"{prefix}.index") for prefix in prefixes]
        index = next(filter(Path.is_file, indexes), Path(checkpoint, "checkpoint"))
        files = [index, *sorted(index.parent.glob(f"{glob.escape(index.stem)}.data-*"))]
    elif export.name == "saved_model.pb":
        files = [export, *sorted(export.parent.glob("variables/*"))]
    elif export.suffix == ".meta":
        files = sorted(path for path in export.parent.iterdir() if path.stem == export.stem)
    else:
        files = [export]
    return [*filter(Path.is_file, files)]


def recorded_options(options):
    """What a result depends on besides its image."""
    recorded = {"model": provenance.fingerprint(*find_model_files(options.model))}
    return {**recorded, "native_size": True} if options.native_size else recorded


def explain_difference(made, asked):
    """How a result was made otherwise, by what is recorded."""
    if made.get("model") != asked["model"]:
        return "by another model"
    return f"with{'' if made.get('native_size') else 'out'} --native_size"


# --------------------------------------------------------------------------------------------------
# Translating
# --------------------------------------------------------------------------------------------------


class Translated(NamedTuple):
    """What is reported of an image that is done."""

    path: Path
    shape: tuple  # its (height, width); of one of several that lie side by side
    channels: int  # of the file: 1 or 3, and one more with alpha
    network_shape: tuple | None  # in the network; None: unknown
    deep_range: Any  # as in Decoded


@functools.cache
def create_converter(channels, filetype):
    """A function from the bytes of a result of 8 bits in so many channels to those of a "png" or
    "jpeg" file."""
    with tf.Graph().as_default() as graph:
        contents = tf.placeholder(tf.string, [])
        converted = encode_image(decode_pixels(contents, channels), filetype, portable=False)
        return tf.Session(graph=graph, config=session_config()).make_callable(
            converted, [contents])


class Translator:
    """A model at work."""

    def __init__(self, options, recorded):
        """Loads the model. recorded: as in `recorded_options`."""
        self.model = load_model(options.model, options.native_size, options.tile)
        self.native_size, self.recorded = options.native_size and not options.tile, recorded
        self.read_shape = create_shape_reader()
        self.has_warned = False

    def warn_of_memory(self, path, shape):
        """Warns, once, of an image that takes much memory at its own size."""
        num_pixels = shape[0] * shape[1] // self.model.num_inputs
        num_bytes = self.model.bytes_per_pixel * num_pixels
        if self.native_size and num_bytes > LARGE_MEMORY and not self.has_warned:
            self.has_warned = True
            cli.warn(printable(f"{path}: {num_pixels / 1e6:.0f} megapixels at their own size take "
                               f"about {num_bytes / 1e9:.0f} GB of memory, with --tile 128 less"))

    def generate(self, path, contents):
        """A result's bytes, its (height, width), and the image's channels. Raises ImageError."""
        try:
            with cli.quiet_stderr():  # libjpeg prints its errors too
                *shape, channels = self.read_shape(contents)
            self.warn_of_memory(path, shape)
            with cli.quiet_stderr():
                result = self.model.generate(contents)
            return result, self.read_shape(result)[:2], channels
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            raise ImageError(f"{path} cannot be read ({describe_error(error)}): repair or remove "
                             "it") from None
        except tf.errors.ResourceExhaustedError as error:
            raise ImageError(f"{path} needs more memory than there is ({describe_error(error)}): "
                             "close other programs, or give a smaller image") from None

    def translate(self, job):
        """Writes a Job's result, with a record of how it was made; returns Translated. Raises
        ImageError naming the image."""
        readable = read_with(job.path, lambda contents: make_readable(
            contents, self.model.pair.inputs, job.path))
        result, shape, channels = self.generate(job.path, readable.contents)
        self.refuse_single(job.path, shape)
        if job.filetype not in (None, format_of(result)):
            if "npy" in (job.filetype, format_of(result)) \
                    or "jpeg" not in self.model.pair.targets.filetypes:
                raise ImageError(f"{job.result}: the model's results are of type "
                                 f"{format_of(result)}: change the ending")
            result = create_converter(self.read_shape(result)[2], job.filetype)(result)
        path = job.result if job.filetype else job.result.with_name(
            job.result.name + FORMATS[format_of(result)].extensions[0])
        record = provenance.encode_record(self.recorded, [job.path])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, provenance.add_record(result, record))
        find_shape = self.model.network_shape
        return Translated(job.path, shape, readable.channels or channels,
                          find_shape and find_shape(shape), readable.deep_range)

    def refuse_single(self, path, shape):
        """Raises ImageError for an image that looks like one where the model takes several side by
        side. shape: of one of these."""
        count, trained = self.model.num_inputs, self.model.trained_ratio
        (height, width), ratio = shape, count * shape[1] / shape[0]
        if count > 1 and trained and is_alike(ratio, trained):
            raise ImageError(
                f"{path}: about {count * width}x{height} pixels look like one image, the model "
                f"takes {count} side by side: put them into one file, {count * trained:.3g} times "
                "as wide as high")


def report_shapes(translated, model):
    """Warns of images that may not be what the model takes: one image where it takes several side
    by side, or a pair where it takes one. translated: of all images; model: LoadedModel."""
    count, trained = model.num_inputs, model.trained_ratio
    if not trained:
        return
    ratios = [image.shape[1] / image.shape[0] for image in translated]
    if count > 1:  # those that are wide enough are not judged, as in training
        odd = [image for image, ratio in zip(translated, ratios, strict=True)
               if ratio < PAIR_RATIO / 2 and abs(ratio / trained - 1) > OTHER_SHAPE]
        text = f"may be single images: the model takes {count} side by side in a file, " \
               f"{count * trained:.3g} times as wide as high"
    else:
        odd = [image for image, ratio in zip(translated, ratios, strict=True)
               if is_alike(ratio, 2 * trained)]
        odd = odd if len(odd) >= MOST * len(translated) else []
        text = f"may be pairs: the model takes single images, {trained:.3g} times as wide as " \
               "high (--mode test takes pairs)"
    if odd:
        height, width = odd[0].shape
        cli.warn(printable(f"{len(odd)} of {len(translated)} images, such as {odd[0].path} with "
                           f"{count * width}x{height} pixels, {text}"))


def report_channels(translated, model):
    """Says what of the images the model does not see. translated: of all images."""
    if "jpeg" not in model.pair.inputs.filetypes:
        return
    coloured = sum(image.channels > 2 for image in translated)
    transparent = sum(image.channels in (2, 4) for image in translated)
    if model.channels == 1 and coloured:
        cli.say(f"{coloured} of {len(translated)} images have colours, and the model takes grey: "
                "it sees their luminance")
    if model.channels < 4 and transparent:
        cli.say(f"{transparent} of {len(translated)} images have an alpha channel: what is "
                "transparent lies on white")


def report_enlarged(translated, model):
    """Warns of results that come from a smaller size. translated: of all images."""
    enlarged = [image for image in translated if image.network_shape
                and (image.network_shape[0] < image.shape[0]
                     or image.network_shape[1] < image.shape[1])]
    if enlarged:
        largest = max(enlarged, key=lambda image: math.prod(image.shape))
        (height, width), (rows, columns) = largest.shape, largest.network_shape
        which = f"{len(enlarged)} of {len(translated)} results are" if len(translated) > 1 \
            else "the result is"
        export = find_export(model)
        advice = "give the training folder and --native_size for" \
            if export and export.suffix in ONE_SIZE else "--native_size uses"
        cli.warn(f"the model works at {columns}x{rows} on an image of {width}x{height}: {which} "
                 f"enlarged; {advice} the image's own size")


@contextlib.contextmanager
def show_progress(count):
    """Yields a function to call after each image, and one to warn with. A bar on a terminal shows
    how far it is; elsewhere lines do."""
    start = time.time()
    if not (sys.stderr and sys.stderr.isatty() and importlib.util.find_spec("tqdm")):
        def report(number):
            """A line now and then."""
            if number % REPORT_FREQ == 0:
                rate = cli.rate_text(number, time.time() - start, "images/s")
                say(f"{number} of {count}{rate}")
        yield report, cli.warn
        return
    with cli.create_progress_bar(count, 0, "image") as bar:
        def warn(text):
            """A line of its own."""
            bar.clear()
            cli.warn(text)
        yield lambda _number: bar.update(), warn


def translate_all(jobs, options, recorded):
    """Translates images, and says which ones may not be what the model takes; returns Translated of
    each that is done."""
    translator, translated = Translator(options, recorded), []
    say(f"loaded model from {printable(translator.model.path)}")
    start = time.time()
    with show_progress(len(jobs)) as (report, warn):
        for number, job in enumerate(jobs, 1):
            try:
                translated.append(translator.translate(job))
            except ImageError as error:
                warn(printable(error))
            report(number)
    report_shapes(translated, translator.model)
    report_channels(translated, translator.model)
    return translated, cli.rate_text(len(jobs), time.time() - start, "images/s")


def apply_model(options):
    """Makes all results that are missing; returns the number of failures. Raises UserError."""
    jobs, kept = list_jobs(options), {}
    for job in jobs:
        results = [path for path in possible_results(job) if path.exists() and not options.force]
        kept.update(dict.fromkeys(results, [job.path]))
    missing = [job for job in jobs if kept.keys().isdisjoint(possible_results(job))]
    recorded = recorded_options(options)
    provenance.check_results(kept, recorded, "--output", options.output, explain_difference,
                             read_all=jobs[0].filetype is not None)
    translated, rate = translate_all(missing, options, recorded) if missing else ([], "")
    num_failed = len(missing) - len(translated)
    report_deep([image.deep_range for image in translated])
    report_enlarged(translated, options.model)
    say(f"wrote {len(translated)}, skipped {len(jobs) - len(missing)}, failed {num_failed}{rate}")
    return num_failed


def create_parser():
    """The command line."""
    parser = cli.Parser("apply.py", __doc__.split("\n\n", 1)[0], EXAMPLES)
    add = parser.add_argument
    add("--model", required=True, help="training folder, checkpoint, .pict file, or export: its "
        "folder or its .pb, .meta, .tflite or .onnx file")
    add("--input", required=True, nargs="+", help="images, folders with all below them, patterns "
        "such as photos/*.jpg, numbered frames such as frame_%%04d.png")
    add("--output", required=True, help="folder for the results; of one image also a file, .png, "
        ".jpg, .jpeg, or .npy of floats")
    add("--native_size", action="store_true",
        help="use the model at each image's own size, not at the size it was trained at")
    tiling.add_options(add)
    add_choice(add)
    add("--force", action="store_true", help="make results again that exist")
    return parser


def run(argv):
    """Translates the images; returns the exit code, 1 where images failed."""
    options = Options(**vars(create_parser().parse_args(argv)))
    options = cli.with_options(options, model=choose_checkpoint(options.model, options.which),
                               native_size=options.native_size or options.tile > 0)
    return 1 if apply_model(options) else 0


def main(argv=None):
    """Runs the tool; returns its exit code (docs/tools.md)."""
    return cli.run_main("apply.py", run, argv,
                        interrupted="interrupted; the same command continues")


if __name__ == "__main__":
    sys.exit(main())
