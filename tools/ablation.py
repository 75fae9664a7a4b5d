#!/usr/bin/env python3
"""Runs the paper's ablation on a dataset: trains and tests its variants, puts them side by side.

    python tools/ablation.py --input_dir facades/train --val_dir facades/val \\
        --which_direction BtoA --output_dir facades_ablation --ngf 16 --max_epochs 10

The variants are those of tables 1 to 3 of Isola et al., arXiv 1611.07004. A run that was
interrupted goes on when the same command is given again.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pix2pix  # noqa: E402
from pix2pix import OneLineParser, UserError, number_type  # noqa: E402

CELL = 192  # height and width of an image in the sheet
GAP = 8  # pixels around it
FONT_SIZE = 16
MOST_BYTES = 1_000_000  # of sheet.jpg
COMPARED = (  # what a run in the folder must share with the command
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


class Options(NamedTuple):
    """The command line, frozen. Meanings and defaults stand in `create_parser`."""

    input_dir: Path
    val_dir: Path
    output_dir: Path
    which_direction: str
    lab_colorization: bool
    crop_size: int
    ngf: int
    ndf: int
    max_epochs: int | None
    max_steps: int | None
    batch_size: int
    seed: int
    variants: tuple
    num_pictures: int


class Record(NamedTuple):
    """What record.json in a variant's folder holds."""

    seconds: float = 0.0  # of training, all starts together
    weights: int | None = None  # of both networks
    trained: bool = False
    tested: bool = False


class Result(NamedTuple):
    """What a complete variant has come to."""

    variant: Variant
    l1: float  # mean absolute difference, images in 0..1
    psnr: float  # dB
    ssim: float
    weights: int | None
    seconds: float
    names: list  # of the images tested, in order


class VariantError(RuntimeError):
    """A variant's command has failed; its text is the one line that is shown."""

    def __init__(self, text, code):
        """code: the command's exit code."""
        super().__init__(text)
        self.code = code


# --------------------------------------------------------------------------------------------------
# Commands of a variant
# --------------------------------------------------------------------------------------------------


def shared_arguments(options):
    """What pix2pix.py is given to train any variant, but for the folder."""
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
    """What pix2pix.py is given to train a variant."""
    train_dir = options.output_dir / variant.name / "train"
    return ["--mode", "train", "--output_dir", str(train_dir), *shared_arguments(options),
            *variant.flags.split()]


def test_arguments(options, variant):
    """What pix2pix.py is given to test a variant."""
    folder = options.output_dir / variant.name
    return ["--mode", "test", "--input_dir", str(options.val_dir), "--checkpoint",
            str(folder / "train"), "--output_dir", str(folder / "test"), "--seed",
            str(options.seed)]


def start_flags(train_dir):
    """How training starts in a folder: anew, on from its checkpoint, or over a run without one."""
    if not (train_dir / "options.json").exists():
        return []
    return ["--resume"] if (train_dir / "checkpoint").exists() else ["--overwrite"]


def run_command(command, log_path):
    """Runs a command, its output appended to a file; returns its exit code, 128 + n after signal n.

    At Ctrl-C, which the command gets too, it waits until the command has ended, and returns 130.
    """
    with open(log_path, "ab") as log, \
            subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()
            return 128 + signal.SIGINT
    return code if code >= 0 else 128 - code


# --------------------------------------------------------------------------------------------------
# A variant's folder
# --------------------------------------------------------------------------------------------------


def read_json(path):
    """The object in a JSON file as a dict. Raises UserError."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise UserError(f"{path} is not readable JSON: take it away, "
                        "the same command makes it again") from None


def read_record(folder):
    """The Record of a variant's folder, of an empty one too. Raises UserError."""
    path = folder / "record.json"
    return Record(**read_json(path)) if path.exists() else Record()


def write_record(folder, record):
    """Writes record.json."""
    pix2pix.write_json(folder / "record.json", record._asdict())


def read_weights(log):
    """Number of weights by the text of a training log; None where it does not say."""
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
    return Result(variant, metrics["l1"], metrics["psnr"], metrics["ssim"], record.weights,
                  record.seconds, read_names(folder))


def read_results(output_dir):
    """The Results of all complete variants in the order of VARIANTS. Raises UserError."""
    return [read_result(output_dir / variant.name, variant) for variant in VARIANTS
            if is_complete(output_dir / variant.name)]


def check_folder(options, variant):
    """Raises UserError where a variant's folder holds results of another command."""
    folder = options.output_dir / variant.name
    if (folder / "train" / "options.json").exists():
        asked = vars(pix2pix.create_parser().parse_args(train_arguments(options, variant)))
        stored = pix2pix.read_options(folder / "train")
        for name in COMPARED:
            if stored.get(name) != asked[name]:
                raise UserError(f"{folder / 'train'} is a run of --{name} {stored.get(name)}, "
                                f"this command has {asked[name]}: give another --output_dir")
    if is_complete(folder):
        test_dir = folder / "test"
        tested = Path(read_json(test_dir / "options.json").get("input_dir") or "")
        if tested != options.val_dir:
            raise UserError(f"{test_dir} is of --val_dir {tested}, this command has "
                            f"{options.val_dir}: give another --output_dir")
        if read_names(folder) != pix2pix.unique_names(pix2pix.find_images(options.val_dir)):
            raise UserError(f"{test_dir} is of other images than --val_dir {tested} has now: "
                            "take it away, the same command tests again")


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
    """Up to `count` of the names: the middle one of each of as many equal parts."""
    count = min(count, len(names))
    return [names[(2 * part + 1) * len(names) // (2 * count)] for part in range(count)]


def wrap_title(title, width, measure):
    """The lines of a title, broken after a comma where `measure(line)` goes over the width."""
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
        for number, line in enumerate(lines):  # the last line lies next to the images
            y = top - GAP - line_height * (len(lines) - number)
            draw.text((GAP + step * column + CELL / 2, y), line, "black", font, anchor="ma")
    for number, row in enumerate(rows):
        for column, image in enumerate(row):
            cell = Image.fromarray(image).resize((CELL, CELL), Image.Resampling.LANCZOS)
            sheet.paste(cell, (GAP + step * column, top + step * number))
    return np.asarray(sheet)


def encode(image, kind, **settings):
    """uint8 [height, width, 3] -> bytes of a file of Pillow's format `kind`."""
    contents = io.BytesIO()
    Image.fromarray(image).save(contents, kind, **settings)
    return contents.getvalue()


def encode_jpeg(image, most_bytes=MOST_BYTES):
    """uint8 [height, width, 3] -> bytes of a JPEG file of quality 90, scaled down until it fits."""
    contents, full_size = encode(image, "JPEG", quality=90), Image.fromarray(image)
    scale = 1.0
    while len(contents) > most_bytes:
        scale *= 0.9
        size = [max(1, round(side * scale)) for side in full_size.size]
        contents = encode(np.asarray(full_size.resize(size, Image.Resampling.LANCZOS)), "JPEG",
                          quality=90)
    return contents


def read_rgb(path):
    """An image file as uint8 [height, width, 3], grey ones too."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def make_sheet(results, output_dir, num_pictures):
    """The sheet of complete variants from their test folders: uint8 [height, width, 3]."""
    folders = [output_dir / result.variant.name / "test" / "images" for result in results]
    rows = [[read_rgb(folders[0] / f"{name}-inputs.png"),
             read_rgb(folders[0] / f"{name}-targets.png"),
             *(read_rgb(folder / f"{name}-outputs.png") for folder in folders)]
            for name in choose_evenly(results[0].names, num_pictures)]
    return draw_sheet(["input", "target", *(result.variant.title for result in results)], rows)


# --------------------------------------------------------------------------------------------------
# Running
# --------------------------------------------------------------------------------------------------


def run_step(variant, arguments, log_path):
    """Runs pix2pix.py. Raises VariantError, and KeyboardInterrupt where it was interrupted."""
    code = run_command([sys.executable, pix2pix.__file__, *arguments], log_path)
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if code:
        raise VariantError(f"{variant.name} failed with exit code {code}, see the end of "
                           f"{log_path}; the same command goes on", code)


def train_variant(options, variant):
    """Trains a variant, or goes on with it. Raises as run_step does."""
    folder = options.output_dir / variant.name
    flags, log_path = start_flags(folder / "train"), folder / "train.log"
    record = read_record(folder) if flags == ["--resume"] else Record()
    if record.trained:
        return
    write_record(folder, record)  # what a test of an earlier run came to is no more
    print(f"{variant.name}: progress is in {log_path}", file=sys.stderr)
    start, trained = time.monotonic(), False
    try:
        run_step(variant, train_arguments(options, variant) + flags, log_path)
        trained = True
    finally:
        log = log_path.read_text(encoding="utf-8", errors="replace")
        seconds = record.seconds + time.monotonic() - start
        write_record(folder, Record(seconds, read_weights(log), trained=trained))


def run_variant(options, variant):
    """Trains and tests a variant. Raises as run_step does."""
    folder = options.output_dir / variant.name
    folder.mkdir(parents=True, exist_ok=True)
    train_variant(options, variant)
    run_step(variant, test_arguments(options, variant), folder / "test.log")
    write_record(folder, read_record(folder)._replace(tested=True))


def write_results(options):
    """Writes table and sheet of all complete variants, shows the table and where they are."""
    results, output_dir = read_results(options.output_dir), options.output_dir
    table = table_text(results, options)
    sheet = make_sheet(results, output_dir, options.num_pictures)
    contents = {"table.md": table.encode(), "table.csv": table_csv(results).encode(),
                "sheet.png": encode(sheet, "PNG"), "sheet.jpg": encode_jpeg(sheet)}
    for name, file in contents.items():
        pix2pix.write_atomic(output_dir / name, file)
    print(f"\n{table}")
    print(*(output_dir / name for name in contents), sep="\n")


def run_ablation(options):
    """Runs the variants that are not complete, and writes the results of all that are."""
    for variant in options.variants:
        folder, note = options.output_dir / variant.name, ""
        if is_complete(folder):
            note = " (done before)"
        else:
            run_variant(options, variant)
        print(result_line(read_result(folder, variant)) + note, flush=True)
    write_results(options)


# --------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------


def create_parser():
    """The command line: flags of pix2pix.py, and ours."""
    parser = OneLineParser(prog="ablation.py", description=__doc__.split("\n\n", 1)[0],
                           allow_abbrev=False,
                           formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add, count, names = parser.add_argument, number_type(int, 1), [row.name for row in VARIANTS]
    add("--input_dir", type=Path, required=True, help="folder of pairs to train on")
    add("--val_dir", type=Path, required=True, help="folder of pairs to test on")
    add("--output_dir", type=Path, required=True, help="folder for runs, table and sheet")
    add("--which_direction", default="AtoB", choices=["AtoB", "BtoA"], help="A is the left half")
    add("--lab_colorization", action="store_true", help="images are single; learn colour")
    add("--crop_size", type=number_type(int, 32, 4096), default=256,
        help="height and width of an image in the network")
    add("--ngf", type=count, default=64, help="filters in the generator's first layer")
    add("--ndf", type=count, help="the same of the discriminator; left out: --ngf's")
    add("--max_epochs", type=count, help="passes over the images of each variant")
    add("--max_steps", type=count, help="training steps of each variant; wins over --max_epochs")
    add("--batch_size", type=count, default=1, help="images in a step")
    add("--seed", type=number_type(int, 0, 2**31 - 1), default=0, help="of each variant")
    add("--variants", nargs="+", choices=names, default=names, help="those to run")
    add("--num_pictures", type=count, default=4, help="rows in the sheet")
    return parser


def check_options(options):
    """Raises UserError where a variant could not run; makes nothing."""
    if options.max_epochs is None and options.max_steps is None:
        raise UserError("--max_epochs or --max_steps is missing: say how long to train")
    if options.output_dir.exists() and not options.output_dir.is_dir():
        raise UserError(f"--output_dir {options.output_dir} is a file: name a folder")
    for flag, folder in (("--input_dir", options.input_dir), ("--val_dir", options.val_dir)):
        if not folder.is_dir():
            raise UserError(f"{flag} {folder} is not a folder: check the path")
        if not pix2pix.find_images(folder):
            raise UserError(f"{flag} {folder} holds no JPEG or PNG images: check the path")
        if folder.resolve() == options.output_dir.resolve():
            raise UserError(f"--output_dir {options.output_dir} is {flag} too: give another")
    # --overwrite: a run in the folder is no reason to refuse, check_folder looks at it
    pix2pix.parse_args(["--mode", "train", "--output_dir", str(options.output_dir), "--overwrite",
                        *shared_arguments(options)])
    for variant in options.variants:
        try:
            pix2pix.parse_args(train_arguments(options, variant) + ["--overwrite"])
        except UserError as error:
            reason = str(error).split(":")[0]
            raise UserError(f"{variant.name} cannot run, {reason}: take a larger --crop_size, "
                            "or leave it out of --variants") from None
    for variant in VARIANTS:  # also those that only the table will show
        check_folder(options, variant)


def parse_args(argv=None):
    """Options from the command line. Raises UserError."""
    values = vars(create_parser().parse_args(argv))
    values["ndf"] = values["ndf"] or values["ngf"]
    values["variants"] = tuple(row for row in VARIANTS if row.name in values["variants"])
    options = Options(**values)
    check_options(options)
    return options


def main(argv=None):
    """Runs the tool; returns its exit code: 0, 1 where the disk failed, 2, 130, or that of the
    command that failed."""
    try:
        run_ablation(parse_args(argv))
    except UserError as error:
        print(f"ablation.py: error: {error}", file=sys.stderr)
        return 2
    except VariantError as error:
        print(f"ablation.py: error: {error}", file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"ablation.py: error: {error}: the same command goes on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
