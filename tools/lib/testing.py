"""What test mode makes of every image: its files, its metrics, and a page of all."""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing.pool
import os
import time
from pathlib import Path

from tools.lib import checkpoints, cli, dataset
from tools.lib.cli import printable, say
from tools.lib.image_types import pair_of
from tools.lib.metrics import (
    COUNTS, describe_classes, describe_means, metrics_of, read_row, summarize_rows, write_metrics)
from tools.lib.page import KINDS, save_images
from tools.lib.results_page import write_results_page
from tools.lib.run_folder import list_sources, without_devices
from tools.lib.sheet import write_sheet

FOLDER_NAMES = {"--input_dir": "folder", "--a_dir": "A", "--b_dir": "B"}  # on the page
MAX_PIXELS_AT_ONCE = 2**21  # of images in the network: their layers take a gigabyte at ngf 64


def for_each_image(works, count, pixels):
    """Calls functions, one of each device, one after the other and several at a time, count times
    in all, and yields what they return as it is done.

    While one image's files are written another is in the network; no more are in memory. pixels: of
    the largest image in the network.
    """
    at_once = max(len(works), min(os.cpu_count() or 1, MAX_PIXELS_AT_ONCE // pixels))
    calls = itertools.islice(itertools.cycle(works), count)
    pool = multiprocessing.pool.ThreadPool(at_once)
    try:
        yield from pool.imap_unordered(lambda work: work(), calls)
    finally:  # those at work finish: the session must outlive them
        pool.terminate()
        pool.join()


def generate_images(runs, names, output_dir, rows, pixels):
    """Generates and saves every image and puts its metrics into rows, by its index; yields None as
    it is done, or the error of reading it.

    runs: functions, one for each device, that return the next of the device's images: its index,
    DisplayImages of its files and of drawn ones, and metrics. pixels: as in `for_each_image`.
    """
    def generate_next(run_next):
        """One image."""
        try:
            (index,), images, drawn, metrics = run_next()
        except dataset.reading_errors() as error:
            return error
        save_images(Path(output_dir), [names[index]], images, drawn)
        rows[index] = read_row(metrics)
        return None

    works = [functools.partial(generate_next, run_next) for run_next in runs]
    yield from for_each_image(works, len(names), pixels)


def run_test(runs, options, found, pixels, source):
    """The test loop; returns the exit code. runs, pixels: as in `generate_images`; found:
    dataset.ImageList; source: the checkpoint and its step, for metrics.json.

    Ctrl-C and SIGTERM end it after the images in the network, with a page of those that are done.
    """
    output_dir, start, names = Path(options.output_dir), time.time(), found.names
    rows, failure, interrupt = {}, None, None
    try:
        with cli.create_progress_bar(len(names), 0, "image") as bar, \
                contextlib.closing(generate_images(runs, names, output_dir, rows,
                                                   pixels)) as results:
            for error in results:
                failure = error or failure
                if failure and options.on_bad_image == "fail":
                    break
                bar.update(0 if error else 1)
    except KeyboardInterrupt as signal_error:
        interrupt, failure = signal_error, None
    seconds = time.time() - start
    if failure:  # results come nearly in order: at an early end the image is among the first
        missing = [index for index in range(len(names)) if index not in rows]
        dataset.UnreadableImages(options, found.examples).report(
            failure, missing[:1000] if options.on_bad_image == "fail" else missing)
    shown = write_results(options, names, dict(sorted(rows.items())), source)
    say(f"wrote {len(rows)} of {len(names)} images to {printable(output_dir / 'index.html')}"
        + cli.rate_text(len(rows), seconds, "image/sec"))
    if shown:
        say(shown)
    if interrupt:
        say("stopped; the same command tests all images again")
        raise interrupt
    return 0


def describe_best(source):
    """A (name, value) text where another checkpoint beside the tested one was the best in
    validation, in a list. source: as in `run_test`."""
    names = checkpoints.list_best(Path(source["checkpoint"]).parent)
    if not names or checkpoints.checkpoint_step(names[0]) == source["step"]:
        return []
    return [("best in validation", f"{names[0]}, which --which best tests")]


def describe_test(options, count, total, source):
    """The facts and notes on a page of count images of total."""
    shown = str(total) if count == total else f"{count} of {total}"
    facts = [("images", shown), ("model", source["checkpoint"]),
             *([] if source["step"] is None else [("trained steps", f"{source['step']:,}")]),
             *describe_best(source),
             *((FOLDER_NAMES[flag], folder) for flag, folder in list_sources(options))]
    notes = [] if count == total else [
        f"This page shows {count} of {total} images: the others could not be read, or the test was "
        "stopped before them."]
    return facts, notes


def list_endings(options):
    """Kind of image -> how the names of its files end, first of the one that people look at."""
    pair = pair_of(options)
    sides = (pair.inputs, pair.targets, pair.targets)[:2 if options.no_targets else 3]
    return {kind: [f"-{kind}{ending}" for ending in (
                *["-shown.png"] * side.is_drawn, side.extension)]
            for kind, side in zip(KINDS, sides, strict=False)}


def write_results(options, all_names, rows, source):
    """Writes the page, the sheet and, with targets, the metrics files; returns the means as text.
    rows: index -> metrics; source: as in `run_test`."""
    output_dir, endings = Path(options.output_dir), list_endings(options)
    names, measured = [all_names[index] for index in rows], [*rows.values()]
    metrics = {} if options.no_targets else metrics_of(options)
    summaries = summarize_rows(measured, metrics) if metrics else {}
    side = pair_of(options).targets
    classes = describe_classes(measured, side) if rows and COUNTS in measured[0] else []
    if metrics and rows:
        about = {**source, "options": without_devices(options),
                 **({"classes": classes} if classes else {})}
        write_metrics(output_dir, names, measured, summaries, about, metrics)
    write_sheet(output_dir, names, [shown for shown, *_ in endings.values()],
                options.sheet_columns)
    facts, notes = describe_test(options, len(names), len(all_names), source)
    legend = [{**item, "name": name, "rgb": colour} for item, (name, colour) in
              zip(classes or [{}] * len(side.legend), side.legend, strict=True)]
    write_results_page(output_dir, output_dir.name, facts, notes, endings, metrics,
                       [*zip(names, measured, strict=True)], summaries, legend)
    return describe_means(summaries) if rows else ""
