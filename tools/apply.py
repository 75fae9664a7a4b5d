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
from tools.lib.cli import Options, UserError, printable, say
from tools.lib.files import unique_names, write_atomic
from tools.lib.images import FORMAT_NAMES, FORMATS, ImageError, format_of, require_images
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


def apply_to_file(generate, input_path, output_dir, name):
    """Translates one image into output_dir/NAME.png or .jpg. Raises ImageError naming it."""
    try:
        result = generate(input_path.read_bytes())
    except tf.errors.InvalidArgumentError:
        raise ImageError(f"{input_path} cannot be read as {FORMAT_NAMES}: repair or remove it") \
            from None
    extension = FORMATS[format_of(result)].extensions[0]
    write_atomic(output_dir / f"{name}{extension}", result)


def apply_model(options):
    """Makes all results that are missing; returns the number of failures. Raises UserError."""
    paths = list_inputs(options.input)
    if options.output.resolve() == paths[0].resolve().parent:
        raise UserError(f"--output {options.output} is the folder of --input too: choose another")
    extensions = [row.extensions[0] for row in FORMATS.values()]
    jobs = [(path, name) for path, name in zip(paths, unique_names(paths), strict=True)
            if options.force or not any((options.output / f"{name}{extension}").exists()
                                        for extension in extensions)]
    if options.output.exists() and not options.output.is_dir():
        raise UserError(f"--output {options.output} is a file: give a folder")
    generate = load_export(options.model) if jobs else None
    options.output.mkdir(parents=True, exist_ok=True)
    num_failed, start = 0, time.time()
    for number, (path, name) in enumerate(jobs, 1):
        try:
            apply_to_file(generate, path, options.output, name)
        except ImageError as error:
            num_failed += 1
            cli.warn(printable(error))
        if number % REPORT_FREQ == 0:
            rate = cli.rate_text(number, time.time() - start, "images/s")
            say(f"{number} of {len(jobs)}{rate}")
    rate = cli.rate_text(len(jobs), time.time() - start, "images/s")
    say(f"wrote {len(jobs) - num_failed}, skipped {len(paths) - len(jobs)}, failed {num_failed}"
        f"{rate}")
    return num_failed


def create_parser():
    """The command line."""
    parser = cli.Parser("apply.py", __doc__.split("\n\n", 1)[0], EXAMPLES)
    add = parser.add_argument
    add("--model", type=Path, required=True,
        help="folder of an export, or its .pb, .meta, .tflite or .pict file")
    add("--input", type=Path, required=True, help="a JPEG or PNG image, or a folder of them")
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
