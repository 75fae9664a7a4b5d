#!/usr/bin/env python3
"""Translates images with an exported model: one, a folder, or the frames of a film.

    python tools/apply.py --model facades_export --input labels --output photos
    python tools/apply.py --model facades_export/model.tflite --input label.png --output photos

Takes any format that `pix2pix.py --mode export` writes and needs nothing but TensorFlow. Each
image is taken by itself, in the order of the names; results keep their name and their size.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pix2pix  # noqa: E402
from pix2pix import OneLineParser, UserError, tf  # noqa: E402

REPORT_FREQ = 100  # images between two lines
ENDINGS = {"png": ".png", "jpeg": ".jpg"}


class Options(NamedTuple):
    """The command line, frozen. Meanings and defaults stand in `create_parser`."""

    model: Path
    input: Path
    output: Path
    force: bool


def list_inputs(path):
    """The images of a folder in the order of their names, or the one. Raises UserError."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"--input {path} does not exist: check the path")
    paths = pix2pix.find_images(path)
    if not paths:
        raise UserError(f"--input {path} holds no JPEG or PNG images: check the path")
    return paths


def apply_to_file(generate, input_path, output_dir, name):
    """Translates one image into output_dir/NAME.png or .jpg. Raises UserError naming it."""
    try:
        result = generate(input_path.read_bytes())
    except tf.errors.InvalidArgumentError:
        raise UserError(f"{input_path} cannot be read as JPEG or PNG: repair it or take it out") \
            from None
    kind = next(kind for kind, sign in pix2pix.SIGNATURES.items() if result.startswith(sign))
    pix2pix.write_atomic(output_dir / f"{name}{ENDINGS[kind]}", result)


def apply_model(options):
    """Makes all results that are missing; returns the number of failures. Raises UserError."""
    paths = list_inputs(options.input)
    if options.output.resolve() == paths[0].resolve().parent:
        raise UserError(f"--output {options.output} is the folder of --input too: give another")
    jobs = [(path, name) for path, name in zip(paths, pix2pix.unique_names(paths))
            if options.force or not any((options.output / f"{name}{ending}").exists()
                                        for ending in ENDINGS.values())]
    if options.output.exists() and not options.output.is_dir():
        raise UserError(f"--output {options.output} is a file: name a folder")
    generate = pix2pix.load_export(options.model) if jobs else None
    options.output.mkdir(parents=True, exist_ok=True)
    num_failed, start = 0, time.time()
    for number, (path, name) in enumerate(jobs, 1):
        try:
            apply_to_file(generate, path, options.output, name)
        except UserError as error:
            num_failed += 1
            print(f"apply.py: {error}", file=sys.stderr)
        if number % REPORT_FREQ == 0:
            print(f"{number} of {len(jobs)}, {number / (time.time() - start):.1f} images/s",
                  flush=True)
    print(f"wrote {len(jobs) - num_failed}, skipped {len(paths) - len(jobs)}, failed {num_failed}, "
          f"{len(jobs) / max(time.time() - start, 1e-9):.1f} images/s")
    return num_failed


def create_parser():
    """The command line."""
    parser = OneLineParser(prog="apply.py", description="Translates images with an exported "
                           "model.", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, required=True,
        help="folder of an export, or its .pb, .meta, .tflite or .pict file")
    add("--input", type=Path, required=True, help="a JPEG or PNG image, or a folder of them")
    add("--output", type=Path, required=True, help="folder for the results")
    add("--force", action="store_true", help="makes results that exist again")
    return parser


def main(argv=None):
    """Runs the tool; returns its exit code: 0, 1 where images failed, 2 or 130."""
    try:
        return 1 if apply_model(Options(**vars(create_parser().parse_args(argv)))) else 0
    except UserError as error:
        print(f"apply.py: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"apply.py: error: {error}: the same command goes on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
