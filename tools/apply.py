#!/usr/bin/env python3
"""Translates images with an exported model: one, a folder, or the frames of a film.

    python tools/apply.py --model facades_export --input labels --output photos
    python tools/apply.py --model facades_export/model.tflite --input label.png --output photos

Takes any format that `pix2pix.py --mode export` writes and needs no checkpoint. Each image is
translated by itself, in the order of the names; results keep name and size.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.lib import cli

if __name__ == "__main__":
    cli.require("numpy", "tensorflow")

from pix2pix import load_export
from tools.lib import provenance
from tools.lib.cli import Options, UserError, describe_error, printable, say
from tools.lib.export_formats import EXPORT_FORMATS
from tools.lib.files import unique_names, write_atomic
from tools.lib.image_files import FORMATS, GRAPH_FORMATS, format_of, require_images
from tools.lib.images import ImageError, is_deep_png, read_decoded, report_deep, to_bytes
from tools.lib.tf1 import tf

REPORT_FREQ = 100  # images between two lines
EXAMPLES = """\
  python tools/apply.py --model facades_export --input labels --output photos
  python tools/apply.py --model facades_export/model.tflite --input label.png --output photos"""


def list_inputs(path):
    """The images of a folder in the order of their names, or the one. Raises UserError."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"--input {path} does not exist: check the path")
    return require_images(path, "--input")


def find_model_files(model):
    """The files that hold an export, or the one file of it that is given; [] where there are none.
    """
    if model.is_dir():
        files = [model / row.file for row in EXPORT_FORMATS.values()]
        model = next(filter(Path.is_file, files), model)
    files = [model]
    if model.suffix == ".pb":
        files += sorted(model.parent.glob("variables/*"))
    elif model.suffix == ".meta":
        files = sorted(path for path in model.parent.iterdir() if path.stem == model.stem)
    return [*filter(Path.is_file, files)]


def recorded_options(model):
    """What a result depends on besides its image."""
    return {"model": provenance.fingerprint(*find_model_files(model))}


def read_for_export(path):
    """The bytes of an image file as exported models read them, JPEG or PNG, and its
    `Decoded.deep_range`. Raises ImageError."""
    try:
        contents = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror}): repair or remove it") \
            from error
    if format_of(contents) in GRAPH_FORMATS and not is_deep_png(contents):
        return contents, None
    decoded = read_decoded(path)
    return to_bytes(decoded.pixels), decoded.deep_range


def apply_to_file(generate, input_path, output_dir, name, recorded):
    """Translates one image into output_dir/NAME.png or .jpg, with a record of how; returns its
    `Decoded.deep_range`. Raises ImageError naming it."""
    contents, deep_range = read_for_export(input_path)
    try:
        result = generate(contents)
    except tf.errors.InvalidArgumentError as error:
        raise ImageError(f"{input_path} cannot be read ({describe_error(error)}): repair or remove "
                         "it") from None
    extension = FORMATS[format_of(result)].extensions[0]
    record = provenance.encode_record(recorded, [input_path])
    write_atomic(output_dir / f"{name}{extension}", provenance.add_record(result, record))
    return deep_range


def apply_model(options):
    """Makes all results that are missing; returns the number of failures. Raises UserError."""
    paths = list_inputs(options.input)
    if options.output.resolve() == paths[0].resolve().parent:
        raise UserError(f"--output {options.output} is the folder of --input too: choose another")
    extensions = [row.extensions[0] for row in FORMATS.values()]
    jobs, kept = [], {}
    for path, name in zip(paths, unique_names(paths), strict=True):
        results = [options.output / f"{name}{extension}" for extension in extensions]
        results = [result for result in results if result.exists() and not options.force]
        kept.update(dict.fromkeys(results, [path]))
        if not results:
            jobs.append((path, name))
    if options.output.exists() and not options.output.is_dir():
        raise UserError(f"--output {options.output} is a file: give a folder")
    generate = load_export(options.model) if jobs else None
    recorded = recorded_options(options.model)
    provenance.check_results(kept, recorded, "--output", options.output,
                             lambda _made, _asked: "by another model")
    options.output.mkdir(parents=True, exist_ok=True)
    num_failed, deep_ranges, start = 0, [], time.time()
    for number, (path, name) in enumerate(jobs, 1):
        try:
            deep_ranges.append(apply_to_file(generate, path, options.output, name, recorded))
        except ImageError as error:
            num_failed += 1
            cli.warn(printable(error))
        if number % REPORT_FREQ == 0:
            rate = cli.rate_text(number, time.time() - start, "images/s")
            say(f"{number} of {len(jobs)}{rate}")
    report_deep(deep_ranges)
    rate = cli.rate_text(len(jobs), time.time() - start, "images/s")
    say(f"wrote {len(jobs) - num_failed}, skipped {len(paths) - len(jobs)}, failed {num_failed}"
        f"{rate}")
    return num_failed


def create_parser():
    """The command line."""
    parser = cli.Parser("apply.py", __doc__.split("\n\n", 1)[0], EXAMPLES)
    add = parser.add_argument
    add("--model", type=Path, required=True,
        help="folder of an export, or its .pb, .meta, .tflite, .onnx or .pict file")
    add("--input", type=Path, required=True, help="an image, or a folder of images")
    add("--output", type=Path, required=True, help="folder for the results")
    add("--force", action="store_true", help="make results again that exist")
    return parser


def run(argv):
    """Translates the images; returns the exit code, 1 where images failed."""
    return 1 if apply_model(Options(**vars(create_parser().parse_args(argv)))) else 0


def main(argv=None):
    """Runs the tool; returns its exit code (docs/tools.md)."""
    return cli.run_main("apply.py", run, argv)


if __name__ == "__main__":
    sys.exit(main())
