"""How good a model is while it trains, on images that it does not learn from: validation, the best
checkpoint, patience, and pictures of the same few images."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from tools.lib import dataset, run_folder
from tools.lib.cli import (UserError, all_of, check_combinations, number_type, printable, say, warn,
                           with_options)
from tools.lib.files import describe_missing, remove
from tools.lib.geometry import is_own_size
from tools.lib.metrics import (
    ALL_METRICS, column_of, describe_means, metrics_of, read_row, summarize_rows)
from tools.lib.run_log import time_text
from tools.lib.testing import for_each_image

FOLDER = "samples"  # of a run, with the pictures
NUM_SAMPLES = 4
MAX_STEPS = 100  # whose pictures are kept
MAX_PIXELS = 2**21  # of a training image that is drawn at its own size
MUCH = 0.1  # share of the time from which on a validation is worth a word


def add_options(add):
    """What to validate on, how often, and what follows from it."""
    add("--val_dir", nargs="+", metavar="FOLDER",
        help="validation images, of the kind that training takes: a folder, or those of A and then "
             "that of B")
    add("--val_freq", type=number_type(int, 1), default=1000, help="steps between validations")
    add("--val_metric", choices=[*ALL_METRICS],
        help="metric by which the best checkpoint is kept; default: the first of those that there "
             "are of the targets")
    add("--patience", type=number_type(int, 0), default=0,
        help="stop after this many validations in a row without a better one, 0: never")
    add("--sample_freq", type=number_type(int, 0), default=250,
        help="steps between pictures of the same few images on the run's page, 0: none")


def check(options, explicit):
    """Raises UserError where the validation images are not such as training takes."""
    if options.mode != "train":
        return
    given = [f"--{name}" for name in ("val_freq", "val_metric", "patience")
             if name in explicit and not options.val_dir]
    folders, sources = options.val_dir or [], run_folder.list_sources(options)
    kinds = f"the {len(sources) - 1} folders of A and then that of B" if len(sources) > 2 \
        else "a folder of A and then one of B" if len(sources) > 1 else "one folder of pairs"
    check_combinations([
        (given, f"{' and '.join(given)} need{'s' * (len(given) == 1)} validation images: give "
         "--val_dir"),
        (folders and len(folders) != len(sources),
         f"--val_dir has {len(folders)} folders, training {len(sources)}: give {kinds}")])
    for folder in folders:
        if not os.path.isdir(folder):
            raise UserError(f"--val_dir {folder} is not a folder: {describe_missing(folder)}")
        same = [flag for flag, other in sources if os.path.samefile(folder, other)]
        if same:
            raise UserError(f"--val_dir {folder} is {same[0]} too, which shows nothing but what "
                            "has been learnt by heart: give other images")


def with_metric(options):
    """The options with a --val_metric, one of those of the targets. Raises UserError."""
    names, metric = [*metrics_of(options)], options.val_metric or next(iter(metrics_of(options)))
    if metric not in names and options.val_dir:
        raise UserError(f"--val_metric {metric} is none of the metrics of these targets: give "
                        f"{all_of(names, 'or')}")
    return with_options(options, val_metric=metric if metric in names else names[0])


# --------------------------------------------------------------------------------------------------
# The images
# --------------------------------------------------------------------------------------------------


def test_options(options):
    """The options with which test mode would see the validation images; without --val_dir the
    training images."""
    options = with_options(options, mode="test", batch_size=1, grad_accumulation=1, cache=0,
                           precision="float32")
    if not options.val_dir:
        return options
    folders = {"input_dir": options.val_dir[0]} if not run_folder.from_folders(options) else {
        "a_dir": options.val_dir[:-1], "b_dir": options.val_dir[-1]}
    return with_options(options, max_images=None, **folders)


@contextlib.contextmanager
def naming_val_dir():
    """Lets the text of a UserError inside speak of --val_dir."""
    try:
        yield
    except UserError as error:
        text = str(error)
        for name in run_folder.SOURCES:
            text = text.replace(f"--{name}", "--val_dir")
        raise UserError(text) from None


def list_images(options):
    """The dataset.ImageList of the validation images; None without --val_dir. Raises UserError."""
    if not options.val_dir:
        suggest(options)
        return None
    with naming_val_dir():
        found = dataset.list_images(test_options(options),
                                    remedy="--resize crop or pad keeps shapes")
    say(f"validation examples count = {len(found.examples)}")
    return found


def suggest(options):
    """Says how to use a folder called val that lies beside the training images."""
    sources = [Path(folder) for _, folder in run_folder.list_sources(options)]
    folders = [folder.parent / "val" for folder in sources]
    if all(val.is_dir() and val.resolve() != folder.resolve()
           for folder, val in zip(sources, folders, strict=True)):
        names = " ".join(printable(str(folder)) for folder in folders)
        say(f"--val_dir {names} would show how good the model is on images that it has not seen, "
            "and keep the best checkpoint")


def choose_samples(found, options):
    """The images that are drawn, spread over all of a dataset.ImageList; none where --sample_freq
    is 0, or training images are too large to be drawn at their own size."""
    too_large = is_own_size(options) and not options.val_dir and found.largest > MAX_PIXELS
    if options.sample_freq == 0 or too_large:
        return found._replace(examples=[], names=[])
    count = len(found.examples)
    chosen = sorted({number * count // NUM_SAMPLES for number in range(NUM_SAMPLES)})
    return found._replace(examples=[found.examples[index] for index in chosen],
                          names=[found.names[index] for index in chosen])


# --------------------------------------------------------------------------------------------------
# What follows from validations
# --------------------------------------------------------------------------------------------------


class Validation(NamedTuple):
    """One of a run."""

    step: int
    value: float  # of --val_metric


def describe_mean(summary):
    """The mean of a metrics.Summary in log.csv."""
    if summary.is_unmeasured:
        return ""
    return "inf" if summary.mean is None else f"{summary.mean:.6g}"


def find_best(history, metric):
    """The first of the best Validations; None where there is none. metric: name."""
    sign = -1 if ALL_METRICS[metric].better == "higher" else 1
    return min(history, key=lambda validation: sign * validation.value, default=None)


def is_exhausted(history, options):
    """Whether so many of a run's last Validations as --patience says were no improvement."""
    best = find_best(history, options.val_metric)
    return bool(options.patience and best) \
        and len(history) - 1 - history.index(best) >= options.patience


def describe_exhausted(history, options):
    """What `is_exhausted` means for a run, in words."""
    best = find_best(history, options.val_metric)
    return (f"{column_of(options.val_metric)} has not improved in {options.patience} validations; "
            f"its best was {best.value:.4g} at step {best.step}: test and export use that "
            "checkpoint with --which best, a larger --patience with --resume goes on")


def read_history(rows, metric):
    """The Validations in rows of log.csv, each a dict of texts."""
    found = [(int(row["step"]), row.get(column_of(metric))) for row in rows]
    return [Validation(step, float(text)) for step, text in found if text]


def kept_steps(steps, freq):
    """Of the steps, sorted, those whose pictures are kept: the first, the last, and the multiples
    of the smallest doubling of freq of which there are few enough."""
    spacing = freq
    while steps and steps[-1] // spacing > MAX_STEPS:
        spacing *= 2
    return [step for step in steps if step % spacing == 0 or step in (steps[0], steps[-1])]


class Judge(NamedTuple):
    """What shows how the generator does in test mode: functions, or what these fetch."""

    measure: Any  # the next validation image: index [1], name -> metric [1]; None without any
    draw: Any  # the next sample: index [1], DisplayImages of PNG files [1]; None without any
    pixels: int  # of the largest validation image in the network


class Validator:
    """Validates a model that is being trained, and draws its samples."""

    def __init__(self, options, judge, found, samples, history):
        """judge: of functions; found: the ImageList that it measures, None without --val_dir;
        samples: `choose_samples`; history: the Validations so far."""
        self.options, self.judge, self.found = options, judge, found
        self.samples, self.history = samples, history
        self.folder = Path(options.output_dir) / FOLDER
        self.start, self.told = time.monotonic(), bool(history)

    @property
    def best(self):
        """The best Validation so far; None before the first."""
        return find_best(self.history, self.options.val_metric)

    def measure(self):
        """Name -> metrics.Summary over the validation images, as test mode has it. Raises the error
        of an image that cannot be read, once all are through."""
        rows, errors = {}, []

        def measure_next():
            """One image."""
            try:
                (index,), metrics = self.judge.measure()
            except dataset.reading_errors() as error:
                errors.append(error)
                return
            rows[index] = read_row(metrics)
        for _ in for_each_image([measure_next], len(self.found.examples), self.judge.pixels):
            pass
        if errors:
            raise errors[0]
        return summarize_rows([rows[index] for index in sorted(rows)], metrics_of(self.options))

    def validate(self, step):
        """Validates after a step; returns column of log.csv -> text, {} where an image could not be
        read, of which it warns."""
        start = time.monotonic()
        try:
            summaries = self.measure()
        except dataset.reading_errors() as error:
            reason = dataset.explain_unreadable(error, self.found.examples, self.options)
            warn(f"no validation after step {step}: {reason}")
            return {}
        if summaries[self.options.val_metric].is_unmeasured:
            warn(f"no validation after step {step}: no target has a measurement")
            return {}
        texts = {column_of(name): describe_mean(summary) for name, summary in summaries.items()}
        self.history.append(Validation(step, float(texts[column_of(self.options.val_metric)])))
        best = self.best
        say(f"validation after step {step}: {describe_means(summaries)} ("
            + ("the best so far)" if best.step == step else f"the best was step {best.step})"))
        self.tell_cost(time.monotonic() - start)
        return texts

    def tell_cost(self, seconds):
        """Says after a run's first validation what it costs, where that is much."""
        share = seconds / max(time.monotonic() - self.start, 1e-9)
        if not self.told and share > MUCH:
            say(f"a validation takes {time_text(seconds)}, {share:.0%} of the time so far: a "
                "larger --val_freq or fewer images take less")
        self.told = True

    def best_steps(self):
        """The steps whose best-STEP belong to a run: the best, and the best of those that a
        continued run has too, as the last step is validated only because it is the last."""
        regular = [validation for validation in self.history
                   if validation.step % self.options.val_freq == 0]
        bests = self.best, find_best(regular, self.options.val_metric)
        return {best.step for best in bests if best}

    def draw(self, step):
        """Draws the samples, if there are any, and removes pictures of which there are too many."""
        if not self.samples.names:
            return
        self.folder.mkdir(exist_ok=True)
        for _ in self.samples.names:
            (index,), images = self.judge.draw()
            name = self.samples.names[index]
            for kind, contents in (("inputs", images.inputs), ("targets", images.targets)):
                path = self.folder / f"{name}-{kind}.png"
                if not path.exists():
                    path.write_bytes(contents[0])
            (self.folder / f"{step:08d}-{name}-outputs.png").write_bytes(images.outputs[0])
        steps = self.drawn_steps()
        for old in {*steps} - {*kept_steps(steps, self.options.sample_freq)}:
            for path in self.folder.glob(f"{old:08d}-*-outputs.png"):
                remove(path)

    def drawn_steps(self):
        """The steps of which there are pictures, sorted."""
        prefixes = {path.name.split("-", 1)[0] for path in self.folder.glob("*-outputs.png")}
        return sorted(int(prefix) for prefix in prefixes if prefix.isdecimal())

    def describe_samples(self):
        """What the page needs to show them."""
        return {"folder": FOLDER, "about": "validation" if self.found else "training",
                "names": self.samples.names, "steps": self.drawn_steps()}
