#!/usr/bin/env python3
"""Runs the paper's ablation on a dataset: trains and tests its variants, compares them.

    python tools/ablation.py --input_dir facades/train --val_dir facades/val \\
        --which_direction BtoA --output_dir facades_ablation --ngf 16 --max_epochs 10

The variants are those of tables 1 to 3 of Isola et al., arXiv 1611.07004. A run that was
interrupted continues when you run the same command again.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.lib import cli

if __name__ == "__main__":
    cli.require("numpy", "PIL", "isal", "tensorflow", "tqdm")

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import pix2pix
from tools.lib.cli import Options, RunError, UserError, number_type, printable, say
from tools.lib.files import unique_names, write_atomic, write_json
from tools.lib.image_files import find_images, require_images
from tools.lib.images import read_image, to_bytes
from tools.lib.options import read_options
from tools.lib.provenance import describe_set

EXAMPLES = """\
  python tools/ablation.py --input_dir facades/train --val_dir facades/val \\
      --which_direction BtoA --output_dir facades_ablation --ngf 16 --max_epochs 10"""
CELL = 192  # height and width of an image in the sheet
GAP = 8  # pixels around it
FONT_SIZE = 16
MOST_BYTES = 1_000_000  # of sheet.jpg
COMPARED = (  # what a run in the folder and the command must have in common
    "input_dir", "which_direction", "lab_colorization", "crop_size", "ngf", "ndf", "batch_size",
    "seed", "max_epochs", "max_steps", "generator", "patch_size", "unconditional", "gan_weight",
    "l1_weight")


class Variant(NamedTuple):
    """One row of the ablation."""

    name: str  # its folder
    title: str
    flags: str  # for pix2pix.py; the others have their defaults


VARIANTS = (
    # the paper's table 1, losses; l1 and l1_gan are table 2's U-Net too
    Variant("l1", "U-Net, L1", "--gan_weight 0"),
    Variant("gan_unconditional", "U-Net, GAN", "--l1_weight 0 --unconditional"),
    Variant("gan", "U-Net, cGAN", "--l1_weight 0"),
    Variant("l1_gan_unconditional", "U-Net, L1+GAN", "--unconditional"),
    Variant("l1_gan", "U-Net, L1+cGAN, patch 70", ""),
    # table 2, generators
    Variant("encoder_decoder_l1", "encoder-decoder, L1", "--generator encoder_decoder "
            "--gan_weight 0"),
    Variant("encoder_decoder_l1_gan", "encoder-decoder, L1+cGAN", "--generator encoder_decoder"),
    # table 3, what the discriminator sees; l1_gan is its 70
    Variant("patch_1", "U-Net, L1+cGAN, patch 1", "--patch_size 1"),
    Variant("patch_16", "U-Net, L1+cGAN, patch 16", "--patch_size 16"),
    Variant("patch_286", "U-Net, L1+cGAN, patch 286", "--patch_size 286"),
)


class Record(NamedTuple):
    """What record.json in a variant's folder contains."""

    seconds: float = 0.0  # of training, over all starts
    weights: int | None = None  # of both networks
    trained: bool = False
    tested: bool = False
    train_images: str | None = None  # the set it was trained on; None in older versions
    val_images: str | None = None  # the set it was tested on


class Result(NamedTuple):
    """The outcome of a complete variant."""

    variant: Variant
    l1: float  # mean absolute difference, images in 0..1
    psnr: float  # dB
    ssim: float
    weights: int | None
    seconds: float
    names: list  # of the images tested, in order


# --------------------------------------------------------------------------------------------------
# Commands of a variant
# --------------------------------------------------------------------------------------------------


def shared_arguments(options):
    """Arguments for pix2pix.py to train any variant, except the folder."""
    arguments = ["--input_dir", str(options.input_dir),
                 "--which_direction", options.which_direction,
                 "--crop_size", str(options.crop_size), "--ngf", str(options.ngf),
                 "--ndf", str(options.ndf), "--batch_size", str(options.batch_size),
                 "--seed", str(options.seed)]
    for name in ("max_epochs", "max_steps"):
        if getattr(options, name) is not None:
            arguments += [f"--{name}", str(getattr(options, name))]
    return arguments + ["--lab_colorization"] * options.lab_colorization


def train_arguments(options, variant):
    """Arguments for pix2pix.py to train a variant."""
    train_dir = options.output_dir / variant.name / "train"
    return ["--mode", "train", "--output_dir", str(train_dir), *shared_arguments(options),
            *variant.flags.split()]


def test_arguments(options, variant):
    """Arguments for pix2pix.py to test a variant."""
    folder = options.output_dir / variant.name
    return ["--mode", "test", "--input_dir", str(options.val_dir), "--checkpoint",
            str(folder / "train"), "--output_dir", str(folder / "test"), "--seed",
            str(options.seed)]


def start_flags(train_dir):
    """How training starts in a folder: from scratch, from its checkpoint, or over a run without."""
    if not (train_dir / "options.json").exists():
        return []
    return ["--resume"] if (train_dir / "checkpoint").exists() else ["--overwrite"]


def run_command(command, log_path):
    """Runs a command, its output appended to a file; returns its exit code, 128 + n after signal n.
    """
    with open(log_path, "ab") as log:
        return cli.run_child(command, stdout=log, stderr=subprocess.STDOUT)


# --------------------------------------------------------------------------------------------------
# A variant's folder
# --------------------------------------------------------------------------------------------------


def read_json(path):
    """The object in a JSON file as a dict. Raises UserError."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise UserError(f"{path} is not readable JSON: remove it, "
                        "the same command makes it again") from None


def read_record(folder):
    """The Record of a variant's folder, even of an empty one. Raises UserError."""
    path = folder / "record.json"
    return Record(**read_json(path)) if path.exists() else Record()


def write_record(folder, record):
    """Writes record.json."""
    write_json(folder / "record.json", record._asdict())


def read_weights(log):
    """Number of weights according to a training log; None where it does not say."""
    counts = re.findall(r"^parameter_count = (\d+)$", log, re.MULTILINE)
    return int(counts[-1]) if counts else None


def is_complete(folder):
    """Whether a variant is trained and tested."""
    files = ("train/options.json", "test/options.json", "test/metrics.json", "test/metrics.csv")
    return read_record(folder).tested and all((folder / file).exists() for file in files)


def read_names(folder):
    """Names of the images that a complete variant was tested on, in order."""
    with open(folder / "test" / "metrics.csv", newline="", encoding="utf-8",
              errors="surrogateescape") as file:  # pix2pix.py writes names as the system has them
        return [row["name"] for row in csv.DictReader(file)]


def read_result(folder, variant):
    """The Result of a complete variant. Raises UserError."""
    metrics, record = read_json(folder / "test" / "metrics.json"), read_record(folder)
    psnr = math.inf if metrics["psnr"] is None else metrics["psnr"]  # all outputs are targets
    return Result(variant, metrics["l1"], psnr, metrics["ssim"], record.weights, record.seconds,
                  read_names(folder))


def read_results(output_dir):
    """The Results of all complete variants in the order of VARIANTS. Raises UserError."""
    return [read_result(output_dir / variant.name, variant) for variant in VARIANTS
            if is_complete(output_dir / variant.name)]


def check_folder(options, variant, train_images, val_images):
    """Raises UserError where a variant's folder contains results of another command, or of other
    images than its folders have now (`describe_set`)."""
    folder = options.output_dir / variant.name
    if (folder / "train" / "options.json").exists():
        asked = vars(pix2pix.create_parser().parse_args(train_arguments(options, variant)))
        stored = read_options(folder / "train", pix2pix.create_parser())
        for name in COMPARED:
            if stored.get(name) != asked[name]:
                raise UserError(f"{folder / 'train'} is a run with --{name} {stored.get(name)}, "
                                f"this command has {asked[name]}: choose another --output_dir")
        if read_record(folder).train_images not in (None, train_images):
            raise UserError(f"{folder / 'train'} was trained on other images than --input_dir "
                            f"{options.input_dir} has now: choose another --output_dir")
    if is_complete(folder):
        test_dir = folder / "test"
        tested = Path(read_json(test_dir / "options.json").get("input_dir") or "")
        if tested != options.val_dir:
            raise UserError(f"{test_dir} is a test of --val_dir {tested}, this command has "
                            f"{options.val_dir}: choose another --output_dir")
        if read_names(folder) != unique_names(find_images(options.val_dir)) \
                or read_record(folder).val_images not in (None, val_images):
            raise UserError(f"{test_dir} tested other images than --val_dir {tested} has now: "
                            "remove it, the same command tests again")


# --------------------------------------------------------------------------------------------------
# Table
# --------------------------------------------------------------------------------------------------


def format_seconds(seconds):
    """12345.6 -> "3:25:46"."""
    return str(datetime.timedelta(seconds=round(seconds)))


def format_count(count):
    """1234567 -> "1,234,567"; None -> "unknown"."""
    return "unknown" if count is None else f"{count:,}"


def result_line(result):
    """One line of a finished variant."""
    return (f"{result.variant.name}: L1 {result.l1:.4f}, PSNR {result.psnr:.2f} dB, "
            f"SSIM {result.ssim:.4f}, {format_count(result.weights)} weights, "
            f"trained in {format_seconds(result.seconds)}")


def table_text(results, options):
    """The results as Markdown."""
    shared, num_pictures = shlex.join(shared_arguments(options)), len(results[0].names)
    rows = ["| variant | flags | L1 (0..1) | PSNR (dB) | SSIM | weights | training time |",
            "|---|---|---|---|---|---|---|"]
    for result in results:
        flags = f"`{result.variant.flags}`" if result.variant.flags else "defaults"
        rows.append(f"| {result.variant.title} | {flags} | {result.l1:.4f} | {result.psnr:.2f} | "
                    f"{result.ssim:.4f} | {format_count(result.weights)} | "
                    f"{format_seconds(result.seconds)} |")
    return (f"All variants: `{shared}`. L1, PSNR and SSIM are means over the {num_pictures} "
            f"images of `{options.val_dir}`.\n\n" + "\n".join(rows) + "\n")


def table_csv(results):
    """The results as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "title", "flags", "l1", "psnr", "ssim", "weights", "seconds"])
    writer.writerows([*result.variant, f"{result.l1:.6g}", f"{result.psnr:.6g}",
                      f"{result.ssim:.6g}", result.weights, f"{result.seconds:.1f}"]
                     for result in results)
    return text.getvalue()


# --------------------------------------------------------------------------------------------------
# Sheet
# --------------------------------------------------------------------------------------------------


def choose_evenly(names, count):
    """Up to `count` of the names, evenly spaced: the middle one of each of as many equal parts."""
    count = min(count, len(names))
    return [names[(2 * part + 1) * len(names) // (2 * count)] for part in range(count)]


def wrap_title(title, width, measure):
    """The lines of a title, broken after a comma where `measure(line)` exceeds the width."""
    lines = []
    for part in re.split("(?<=,) ", title):
        joined = f"{lines[-1]} {part}" if lines else part
        if lines and measure(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


def draw_sheet(titles, rows):
    """The contact sheet: a column per title, and per row a list of uint8 [height, width, 3], one a
    column -> uint8 [height, width, 3]."""
    font = ImageFont.load_default(FONT_SIZE)
    heads = [wrap_title(title, CELL - GAP, font.getlength) for title in titles]
    line_height, step = sum(font.getmetrics()), CELL + GAP
    top = 2 * GAP + line_height * max(map(len, heads))
    sheet = Image.new("RGB", (GAP + step * len(titles), top + step * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, lines in enumerate(heads):
        for number, line in enumerate(lines):  # the last line is next to the images
            y = top - GAP - line_height * (len(lines) - number)
            draw.text((GAP + step * column + CELL / 2, y), line, "black", font, anchor="ma")
    for number, row in enumerate(rows):
        for column, image in enumerate(row):
            cell = Image.fromarray(image).resize((CELL, CELL), Image.Resampling.LANCZOS)
            sheet.paste(cell, (GAP + step * column, top + step * number))
    return np.asarray(sheet)


def encode_jpeg(image, most_bytes=MOST_BYTES):
    """uint8 [height, width, 3] -> bytes of a JPEG file of quality 90, scaled down until it fits."""
    contents, full_size = to_bytes(image, "JPEG", quality=90), Image.fromarray(image)
    scale = 1.0
    while len(contents) > most_bytes:
        scale *= 0.9
        size = [max(1, round(side * scale)) for side in full_size.size]
        contents = to_bytes(np.asarray(full_size.resize(size, Image.Resampling.LANCZOS)), "JPEG",
                            quality=90)
    return contents


def make_sheet(results, output_dir, num_pictures):
    """The sheet of complete variants from their test folders: uint8 [height, width, 3]."""
    folders = [output_dir / result.variant.name / "test" / "images" for result in results]
    rows = [[read_image(folders[0] / f"{name}-inputs.png"),
             read_image(folders[0] / f"{name}-targets.png"),
             *(read_image(folder / f"{name}-outputs.png") for folder in folders)]
            for name in choose_evenly(results[0].names, num_pictures)]
    return draw_sheet(["input", "target", *(result.variant.title for result in results)], rows)


# --------------------------------------------------------------------------------------------------
# Running
# --------------------------------------------------------------------------------------------------


def run_step(variant, arguments, log_path):
    """Runs pix2pix.py. Raises RunError, or KeyboardInterrupt if it was interrupted."""
    code = run_command([sys.executable, pix2pix.__file__, *arguments], log_path)
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if code:
        raise RunError(f"{variant.name} failed with exit code {code}, see the end of "
                       f"{log_path}; the same command continues", code)


def train_variant(options, variant):
    """Trains a variant, or continues its training. Raises as run_step does."""
    folder = options.output_dir / variant.name
    flags, log_path = start_flags(folder / "train"), folder / "train.log"
    record = read_record(folder) if flags == ["--resume"] else Record()
    if record.trained:
        return
    images = record.train_images or describe_set(find_images(options.input_dir))
    record = record._replace(train_images=images)
    write_record(folder, record)  # the test of an earlier run no longer counts
    say(f"{variant.name}: progress is in {printable(log_path)}", sys.stderr)
    start, trained = time.monotonic(), False
    try:
        run_step(variant, train_arguments(options, variant) + flags, log_path)
        trained = True
    finally:
        log = log_path.read_text(encoding="utf-8", errors="replace")
        seconds = record.seconds + time.monotonic() - start
        write_record(folder, Record(seconds, read_weights(log), trained=trained,
                                    train_images=images))


def run_variant(options, variant):
    """Trains and tests a variant. Raises as run_step does."""
    folder = options.output_dir / variant.name
    folder.mkdir(parents=True, exist_ok=True)
    train_variant(options, variant)
    images = describe_set(find_images(options.val_dir))
    run_step(variant, test_arguments(options, variant), folder / "test.log")
    write_record(folder, read_record(folder)._replace(tested=True, val_images=images))


def write_results(options):
    """Writes table and sheet of all complete variants; prints the table and the paths."""
    results, output_dir = read_results(options.output_dir), options.output_dir
    table = table_text(results, options)
    sheet = make_sheet(results, output_dir, options.num_pictures)
    contents = {"table.md": table.encode(), "table.csv": table_csv(results).encode(),
                "sheet.png": to_bytes(sheet), "sheet.jpg": encode_jpeg(sheet)}
    for name, file in contents.items():
        write_atomic(output_dir / name, file)
    say("\n".join([f"\n{table}", *(printable(output_dir / name) for name in contents)]))


def run_ablation(options):
    """Runs the variants that are not complete yet, then writes the results of all that are."""
    for variant in options.variants:
        folder, note = options.output_dir / variant.name, ""
        if is_complete(folder):
            note = " (done before)"
        else:
            run_variant(options, variant)
        say(result_line(read_result(folder, variant)) + note)
    write_results(options)


# --------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------


def create_parser():
    """The command line: flags of pix2pix.py, and ours."""
    parser = cli.Parser("ablation.py", __doc__.split("\n\n", 1)[0], EXAMPLES)
    add, count, names = parser.add_argument, number_type(int, 1), [row.name for row in VARIANTS]
    add("--input_dir", type=Path, required=True, help="folder of pairs to train on")
    add("--val_dir", type=Path, required=True, help="folder of pairs to test on")
    add("--output_dir", type=Path, required=True, help="folder for runs, table and sheet")
    add("--which_direction", default="AtoB", choices=["AtoB", "BtoA"],
        help="which half is the input; A is the left one")
    add("--lab_colorization", action="store_true",
        help="images are not pairs: learn colour from lightness")
    add("--crop_size", type=number_type(int, 32, 4096), default=256,
        help="height and width of an image in the network")
    add("--ngf", type=count, default=64, help="filters in the generator's first layer")
    add("--ndf", type=count, help="filters in the discriminator's first layer; --ngf if not given")
    add("--max_epochs", type=count, help="passes over the images of each variant")
    add("--max_steps", type=count, help="training steps of each variant; wins over --max_epochs")
    add("--batch_size", type=count, default=1, help="images in a step")
    add("--seed", type=number_type(int, 0, 2**31 - 1), default=0, help="of each variant")
    add("--variants", nargs="+", choices=names, default=names, help="variants to run")
    add("--num_pictures", type=count, default=4, help="rows in the sheet")
    return parser


def check_options(options):
    """Raises UserError where a variant could not run; creates nothing."""
    if options.max_epochs is None and options.max_steps is None:
        raise UserError("--max_epochs or --max_steps is missing: give one")
    if options.output_dir.exists() and not options.output_dir.is_dir():
        raise UserError(f"--output_dir {options.output_dir} is a file: give a folder")
    sets = []
    for flag, folder in (("--input_dir", options.input_dir), ("--val_dir", options.val_dir)):
        sets.append(describe_set(require_images(folder, flag)))
        if folder.resolve() == options.output_dir.resolve():
            raise UserError(f"--output_dir {options.output_dir} is {flag} too: choose another")
    # --overwrite: a run in the folder is no reason to refuse, check_folder looks at it
    pix2pix.parse_args(["--mode", "train", "--output_dir", str(options.output_dir), "--overwrite",
                        *shared_arguments(options)])
    for variant in options.variants:
        try:
            pix2pix.parse_args(train_arguments(options, variant) + ["--overwrite"])
        except UserError as error:
            reason = str(error).split(":")[0]
            raise UserError(f"{variant.name} cannot run, {reason}: give a larger --crop_size "
                            "or leave it out of --variants") from None
    for variant in VARIANTS:  # also those that only the table will show
        check_folder(options, variant, *sets)


def parse_args(argv=None):
    """Options from the command line. Raises UserError."""
    values = vars(create_parser().parse_args(argv))
    values["ndf"] = values["ndf"] or values["ngf"]
    values["variants"] = tuple(row for row in VARIANTS if row.name in values["variants"])
    options = Options(**values)
    check_options(options)
    return options


def run(argv):
    """Runs the ablation. Raises UserError, RunError with the exit code of a variant."""
    run_ablation(parse_args(argv))


def main(argv=None):
    """Runs the tool; returns its exit code (docs/tools.md)."""
    return cli.run_main("ablation.py", run, argv,
                        interrupted="interrupted; the same command continues")


if __name__ == "__main__":
    sys.exit(main())
