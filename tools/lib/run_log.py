"""What a run shows while it trains: progress, log.csv, TensorBoard's events, images, the page."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import socket
import time
from pathlib import Path

from tools.lib.cli import (check_combinations, create_progress_bar, describe_error, number_type,
                           say, warn)
from tools.lib.files import write_atomic
from tools.lib.inputs import write_inputs
from tools.lib.metrics import column_of, metrics_of
from tools.lib.page import save_images
from tools.lib.run_page import (choose_charts, choose_rows, list_options, read_columns,
                                write_run_page)
from tools.lib.schedule import ENDLESS, Progress, progress_lines
from tools.lib.tf1 import tf

NARROW = 80  # columns of a terminal that does not say how many it has
MIN_BAR = 10  # columns in which a bar is worth drawing
MAX_DIGITS = 9  # of a step in a run without an end
BEAT = 10  # seconds after which a step writes the page again
FIRST_WAIT = 120  # seconds that a first step may take
FIRST_LOSS = "gen_loss_L1"  # shown in the narrowest terminal: how far outputs are from targets


def add_options(add):
    """What to show, and how often."""
    whole = number_type(int, 0)
    add("--progress_freq", type=whole, default=50, help="steps between progress lines, 0: none")
    add("--summary_freq", type=whole, default=100,
        help="steps between TensorBoard summaries, 0: none")
    add("--summary_histograms", action="store_true",
        help="add histograms of all weights and gradients to the summaries")
    add("--display_freq", type=whole, default=0,
        help="steps between images on the run's page, 0: none")
    add("--trace_freq", type=whole, default=0, help="steps between timelines of one step, 0: none")


def check(options, explicit):
    """Raises UserError where flags contradict each other."""
    check_combinations([
        (options.summary_freq == 0 and {"summary_histograms", "summary_freq"} <= explicit
         and options.mode == "train",
         "--summary_histograms needs summaries, --summary_freq 0 writes none: remove one")])


class Events:
    """TensorBoard's event file, written at once: TensorFlow's own writer does so in a thread, whose
    failures nobody sees."""

    def __init__(self, output_dir, graph, start_step):
        """Opens a new file. TensorBoard discards what an earlier process wrote after start_step."""
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self.writer = tf.io.TFRecordWriter(str(output_dir / name))
        self.add(file_version="brain.Event:2")
        self.add(graph_def=graph.as_graph_def().SerializeToString())
        self.add(start_step + 1, session_log=tf.SessionLog(status=tf.SessionLog.START))

    def add(self, step=0, **what):
        """Writes an event."""
        event = tf.Event(wall_time=time.time(), step=step, **what)
        self.writer.write(event.SerializeToString())
        self.writer.flush()

    def close(self):
        """Closes the file."""
        self.writer.close()


def kept_rows(options, start_step):
    """The columns of a run's log.csv and its rows up to start_step, as one run would have written
    them; no columns where there is no log, None where it has been edited."""
    path = Path(options.output_dir) / "log.csv"
    if not path.exists():
        return (), []

    def is_due(freq):
        """Whether something is, after start_step; it may be in the log only because an earlier part
        of the run ended there."""
        return freq > 0 and start_step % freq == 0

    def is_kept(row):
        """Whether one run would have written a row."""
        step = int(row["step"]) if (row["step"] or "").isdecimal() else math.inf
        freqs = [options.progress_freq] + [options.val_freq] * (options.val_dir is not None)
        return step < start_step or step == start_step and any(map(is_due, freqs))
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.DictReader(file)
            columns, rows = tuple(reader.fieldnames or ()), [*filter(is_kept, reader)]
        validations = [name for name in columns if name.startswith("val_")]
        for row in rows:  # they decide which checkpoint is the best: ValueError for no number
            if any(math.isnan(float(row[name] or 0)) for name in validations) \
                    or int(row["step"]) == start_step and not is_due(options.val_freq):
                row.update(dict.fromkeys(validations, ""))
        return columns, rows
    except (KeyError, ValueError, csv.Error):
        return None, []


def time_text(seconds):
    """Seconds as a person says them: "40s", "9m", "8h20m", "31h"."""
    if seconds < 59.5:
        return f"{seconds:.0f}s"
    minutes = round(seconds / 60)
    if minutes >= 600:
        return f"{minutes / 60:.0f}h"
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m"


def bar_texts(progress, averages):
    """What the bar says besides the number of steps, the most important first. averages: name ->
    loss."""
    first = {FIRST_LOSS: averages[FIRST_LOSS]} if FIRST_LOSS in averages else {}
    texts = [f"{name} {value:.3g}" for name, value in {**first, **averages}.items()]
    if progress.remaining is not None:
        texts.insert(1, f"{time_text(progress.remaining)} left")
    texts.append(f"epoch {progress.epoch}")
    if progress.rate is not None:
        texts.append(f"{progress.rate:.1f} image/s")
    return texts


def bar_format(width, total, texts=()):
    """tqdm's format of a bar in a terminal: the number of steps, as many of the texts as fit, and
    the bar itself where there is room. width: in columns; total: of steps, None without an end."""
    count = "step {n_fmt}" if total is None else "{n_fmt}/{total_fmt}"
    room = width - (len("step ") + MAX_DIGITS if total is None else 2 * len(str(total)) + 1)
    shown = []
    for text in texts:
        if len(text) < room:  # with a space
            shown.append(text)
            room -= 1 + len(text)
    head = "{percentage:3.0f}%|{bar}| "
    drawn = total is not None and room >= len("100%|| ") + MIN_BAR
    return " ".join([head * drawn + count, *shown])


def show_progress(bar, progress, averages):
    """Shows progress on the bar, or prints it where there is none. averages: name -> loss."""
    if bar.disable:
        say(progress_lines(progress, averages))
    else:
        width = bar.format_dict["ncols"] or NARROW
        bar.bar_format = bar_format(width, bar.total, bar_texts(progress, averages))
        bar.refresh()


class RunLog:
    """What a run shows. Whatever of it fails is reported once and then ignored: training continues.
    """

    def __init__(self, run, earlier, facts, defaults):
        """run: pix2pix.Run; earlier: `kept_rows`, which it keeps; facts: (name, value) texts for
        the page; defaults: of the options, by name."""
        self.run, self.options, self.facts = run, run.options, facts
        self.output_dir, self.failed, self.notes = Path(run.options.output_dir), set(), []
        self.flags = list_options(run.options, defaults)
        metrics = map(column_of, metrics_of(self.options) if run.validator.found else ())
        old_columns, self.rows = earlier
        self.columns = tuple(dict.fromkeys((
            *(old_columns or ()), "step", "epoch", *run.fetches.averages, "lr",
            *run.fetches.accuracy, *metrics)))
        self.step, self.progress, self.state = run.start_step, None, "running"
        self.written, self.longest = None, None  # when the page was; most seconds between two
        start_step, stop_step = run.start_step, run.stop_step
        self.events, self.size = None, None
        total = stop_step if stop_step < ENDLESS else None
        self.bar = create_progress_bar(total, start_step, "step",
                                       bar_format=bar_format(NARROW, total))
        with self.harmless("log.csv"):
            self.start_log(old_columns is None)
        with self.harmless("TensorBoard's events"):
            self.events = Events(self.output_dir, run.sess.graph, start_step)

    @contextlib.contextmanager
    def harmless(self, what):
        """Turns a failure inside into a warning."""
        try:
            yield
        except (OSError, ValueError, LookupError, RuntimeError, tf.errors.OpError) as error:
            if what not in self.failed:
                warn(f"cannot write {what} ({describe_error(error)}), training continues")
            self.failed.add(what)

    def start_log(self, is_edited):
        """Writes log.csv's header and the rows of an earlier log, or keeps one that has been edited
        under another name."""
        path, text = self.output_dir / "log.csv", io.StringIO()
        if is_edited:
            path.replace(path.with_suffix(".csv.old"))
            warn(f"{path} has been edited, renaming it to {path.name}.old")
        writer = csv.DictWriter(text, self.columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomic(path, text.getvalue().encode())
        self.size = path.stat().st_size

    def show(self, step, due, results, progress, validation):
        """Shows what is due after a step. results: Fetches; None where the step was not taken.
        validation: column -> text, {} where there was none."""
        if due.progress:
            self.show_figures(step, results, progress, validation)
        if results and due.summary and self.events:
            with self.harmless("TensorBoard's events"):
                self.events.add(step, summary=tf.Summary.FromString(results.summary))
        if validation and self.events:
            with self.harmless("TensorBoard's events"):
                self.events.add(step, summary=tf.Summary(value=[
                    tf.Summary.Value(tag=column, simple_value=float(text))
                    for column, text in validation.items()]))
        if results and due.display:
            names = self.run.found.names
            shown = [f"{step:08d}-{names[index]}" for index in results.indices]
            with self.harmless("images"):
                save_images(self.output_dir, shown, results.images)
        is_old = self.written is None or time.monotonic() - self.written > BEAT
        if due.display or due.save or due.sample or validation or is_old:
            self.write_page()

    def show_figures(self, step, results, progress, validation):
        """Shows progress, and adds a row to log.csv. All: as in `show`."""
        figures = {}
        if results:
            show_progress(self.bar, progress, results.averages)
            figures = {**results.averages, "lr": results.lr, **results.accuracy}
        row = {"step": step, "epoch": progress.epoch,
               **{name: f"{value:.6g}" for name, value in figures.items()}, **validation}
        self.rows.append(row)
        with self.harmless("log.csv"):
            self.add_row(row)

    def draw_samples(self, step):
        """Draws the samples after a step."""
        with self.harmless("samples"):
            self.run.validator.draw(step)

    def add_row(self, row):
        """Appends a row to log.csv, after the last complete one."""
        if self.size is None:  # it could not be created
            return
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerow(row)
        with open(self.output_dir / "log.csv", "r+b") as file:
            file.truncate(self.size)
            file.seek(self.size)
            file.write(text.getvalue().encode())
        self.size += len(text.getvalue().encode())

    def note(self, text):
        """Prints a warning and shows it on the page."""
        warn(text)
        self.notes.append(text)
        self.write_page()

    def write_inputs(self, examples):
        """Writes what the inputs look like, once. examples: of dataset.ImageList."""
        with self.harmless("inputs.json"):
            write_inputs(self.output_dir, examples, self.options)

    def describe_progress(self):
        """Where the run stands, for the page."""
        progress = self.progress or Progress(0, 0)
        stop_step = self.run.stop_step if self.run.stop_step < ENDLESS else None
        return {"step": self.step, "stop_step": stop_step, "epoch": progress.epoch,
                "rate": progress.rate, "remaining": progress.remaining}

    def describe_best(self):
        """The best validation, for the page; None before the first."""
        best = self.run.validator.best
        if best is None:
            return None
        name = f"best-{best.step}"
        is_kept = (self.output_dir / f"{name}.index").exists()
        label = metrics_of(self.options)[self.options.val_metric].label
        return {"metric": label, "step": best.step, "value": best.value,
                "checkpoint": name if is_kept else None}

    def list_displayed(self):
        """The images of --display_freq, by the names of their files, the newest first."""
        ending = "-outputs.png"
        return sorted((path.name[:-len(ending)] for path in (self.output_dir / "images").iterdir()
                       if path.name.endswith(ending)), reverse=True)

    def write_page(self):
        """Writes the page as it is now."""
        now, charts = time.monotonic(), choose_charts(self.options, self.columns)
        if self.step > self.run.start_step + 1:  # the first step takes its own time
            self.longest = max(BEAT, now - (self.written or now), self.longest or 0)
        self.written = now
        with self.harmless("index.html"):
            write_run_page(self.output_dir, {
                "title": self.output_dir.name, "number": int(1000 * time.time()),
                "written": time.time(), "state": self.state,
                "next": 2 * (self.longest or FIRST_WAIT),
                "progress": self.describe_progress(), "facts": self.facts, "options": self.flags,
                "notes": self.notes, "charts": charts,
                "columns": read_columns(choose_rows(self.rows), charts),
                "best": self.describe_best(),
                "samples": self.run.validator.describe_samples(),
                "display": self.list_displayed()})

    def end(self, state):
        """Shows that the run has come to its end: "finished", "stopped" or "failed"."""
        self.state = state
        self.write_page()
        self.bar.close()

    def close(self):
        """Closes the progress bar and the event file. A run that has not come to its end has
        failed."""
        if self.state == "running":
            self.end("failed")
        with self.harmless("TensorBoard's events"):
            if self.events:
                self.events.close()


def run_traced(sess, step, log, fetches, options=None):
    """`sess.run`, which also writes a timeline of the step."""
    from tensorflow.python.client import timeline  # has no public name
    metadata = tf.RunMetadata()
    traced = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    traced.MergeFrom(options or tf.RunOptions())
    results = sess.run(fetches, options=traced, run_metadata=metadata)
    with log.harmless("timelines"):
        log.events.add(step, tagged_run_metadata=tf.summary.TaggedRunMetadata(
            tag=f"step_{step}", run_metadata=metadata.SerializeToString()))
        trace = timeline.Timeline(metadata.step_stats).generate_chrome_trace_format()
        write_atomic(log.output_dir / f"trace-{step}.json", trace.encode())
    return results
