"""Whose folder it is: default names, what a mode may replace, options.json."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from tools.lib.cli import Options, UserError, check_combinations, printable, warn, with_options
from tools.lib.files import describe_missing, remove, write_json
from tools.lib.foreign_files import describe_file
from tools.lib.image_files import list_folder

RESULT_PATTERNS = {  # mode -> the files and folders that it writes, and may replace
    "train": ("checkpoint", "model-[0-9]*", "epoch-[0-9]*", "best-[0-9]*", "events.out.tfevents.*",
              "trace-*.json", "log.csv", "inputs.json", "inputs-[1-3].png", "index.html", "run.js",
              *(f"{folder}/*-{kind}.png" for folder in ("images", "samples")
                for kind in ("inputs", "outputs", "targets"))),
    "test": ("metrics.csv", "metrics.json", "index.html", "sheet.png",
             *(f"images/*-{kind}{ending}" for kind in ("inputs", "outputs", "targets")
               for ending in (".png", ".npy", "-shown.png"))),
    "export": ("saved_model.pb", "variables", "assets", "export.meta", "export.index",
               "export.data-*", "checkpoint", "graph.pb", "model.tflite", "model.onnx",
               "model.pict")}
DEVICE_OPTIONS = (  # of a command, not of its run, which may continue elsewhere
    "num_gpus", "cluster", "task", "worker_timeout", "keep", "allow_public")
PATTERN_CHARACTERS = "*?[]" if os.sep == "\\" else "*?[]\\"  # special where TensorFlow opens a file
SPLIT_NAME = re.compile(r"(train|training|val|valid|validation|test|testing)\d*", re.IGNORECASE)
CHECKPOINT_FILE = re.compile(r"(.+)\.(index|meta|data-\d+-of-\d+)", re.DOTALL)
MODEL_KINDS = "a training folder, a checkpoint, an export or a .pict file"
MAX_NAMED = 5  # folders or checkpoints in a message
CHECKPOINT_KINDS = "a training folder, a checkpoint or a .pict file"


def add_options(add):
    """Which folders a mode reads and writes."""
    add("--input_dir", help="folder of images, each a pair side by side")
    add("--a_dir", action="append",
        help="folder of A's images, in place of --input_dir; several are stacked by channel")
    add("--b_dir", help="folder of B's images, which have the names of A's; endings may differ")
    add("--output_dir", help="folder for the results; DATASET_MODE if not given")
    add("--checkpoint", help="training folder, checkpoint or .pict file to start from; in test and "
        "export DATASET_train if not given")
    add("--resume", action="store_true",
        help="continue the run in --output_dir; --max_steps and --max_epochs are totals")
    add("--overwrite", action="store_true", help="replace the run in --output_dir")


def check(options, _explicit):
    """Raises UserError for flags of another mode."""
    check_combinations([
        ((options.resume or options.overwrite) and options.mode != "train",
         f"--{'resume' if options.resume else 'overwrite'} is for --mode train: remove it")])
    refuse_same(options)


def refuse_same(options):
    """Raises UserError where a folder is given twice; A and B may be one if their channels differ:
    grey and colour of the same images."""
    sources = list_sources(options)
    differ = (options.a_channels or 3) != (options.b_channels or 3)
    places = [(differ and flag, os.path.realpath(folder)) for flag, folder in sources]
    twice = next((number for number, place in enumerate(places) if place in places[:number]), None)
    if twice is not None:
        flag, folder = sources[twice]
        raise UserError(f"{flag} {folder} is {sources[places.index(places[twice])][0]} too: give "
                        "another folder")


# --------------------------------------------------------------------------------------------------
# What is in a folder
# --------------------------------------------------------------------------------------------------


def find_results(folder, mode):
    """The files and folders in a folder that have the names of a mode's results."""
    return [path for pattern in RESULT_PATTERNS[mode]
            for path in sorted(Path(folder).glob(pattern))]


def remove_results(folder, mode):
    """Removes the files and folders in a folder that have the names of a mode's results."""
    for path in find_results(folder, mode):
        remove(path)


def read_stored(folder):
    """The options in a folder's options.json: {} where it is damaged, None where there is none."""
    try:
        return dict(json.loads(Path(folder, "options.json").read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError):
        return {}
    except OSError:
        return None


def read_path(folder, name):
    """A path in a folder's options.json; None where there is none."""
    path = (read_stored(folder) or {}).get(name)
    return path if isinstance(path, str) and path else None


def read_mode(folder):
    """The --mode that made a folder, by its options.json; None where there is none."""
    stored = read_stored(folder)
    # a damaged file may be a run's: protect it
    return None if stored is None else stored.get("mode", "train")


def holds_run(folder):
    """Whether a folder contains a training run, with or without its options."""
    return read_mode(folder) == "train" or any(Path(folder).glob("model-*.index"))


def list_runs(folder="."):
    """Names of the training folders in a folder."""
    try:
        return sorted(path.name for path in Path(folder).iterdir()
                      if path.is_dir() and holds_run(path))
    except OSError:
        return []


def name_some(names):
    """The first of some names, as a message lists them."""
    more = ", ..." if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def name_runs():
    """The training folders here, as the end of a message."""
    runs = list_runs()
    return f" (training folders here: {name_some(runs)})" if runs else ""


def describe_folder(folder):
    """What a folder is, such as "an empty folder"."""
    folder, mode = Path(folder), read_mode(folder)
    if holds_run(folder):
        return "a training folder" if any(folder.glob("model-*.index")) \
            else "a training folder without a save"
    if mode is not None:
        source = read_path(folder, "checkpoint")
        return f"the {mode} of {source}" if source else f"the folder of a {mode}"
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if (folder / "saved_model.pb").exists():
        return "a SavedModel of another program"
    others = [path.stem for path in paths if path.suffix == ".index"]
    if others:
        return f"a folder with the checkpoints {name_some(others)}"
    if list_runs(folder):
        return f"a folder with the training folders {name_some(list_runs(folder))}"
    names = [path.name for path in paths]
    kinds = sorted({describe_file(path) for path in paths[:100] if path.is_file()})
    if kinds:
        number = sum(path.is_file() for path in paths)
        count = f"{number} files, such as " if number > 1 else ""
        return f"a folder with {count}{name_some(kinds)}"
    return f"a folder with the folders {name_some(names)}" if names else "an empty folder"


def describe_path(path):
    """What a file or folder is, such as "a training folder"."""
    return describe_folder(path) if os.path.isdir(path) else describe_file(path)


def find_checkpoint(path):
    """What a path to a model means: the prefix for one of a checkpoint's files, the folder for its
    state file, otherwise the path itself."""
    if os.path.isdir(path):
        return path
    match = CHECKPOINT_FILE.fullmatch(path)
    for prefix in (str(Path(path)), *(match.groups()[:1] if match else ())):
        if os.path.exists(f"{prefix}.index"):
            return prefix
    if match and os.path.isfile(path):
        return match[1]
    return str(Path(path).parent) if Path(path).name == "checkpoint" and os.path.isfile(path) \
        else path


# --------------------------------------------------------------------------------------------------
# Where the images are
# --------------------------------------------------------------------------------------------------

SOURCES = ("input_dir", "a_dir", "b_dir")


def from_folders(options):
    """Whether the two images of a pair are files of their own."""
    return bool(options.a_dir or options.b_dir)


def list_sources(options):
    """The folders of images that a command line names: (flag, folder), A before B."""
    return [(f"--{name}", folder) for name in SOURCES for value in [getattr(options, name)]
            for folder in (value if isinstance(value, list) else [value]) if folder is not None]


def holds_split(folder):
    """Whether a folder contains folders such as train, val or test."""
    try:
        with os.scandir(folder) as entries:
            return any(SPLIT_NAME.fullmatch(entry.name) and entry.is_dir() for entry in entries)
    except OSError:
        return False


def dataset_dir(options):
    """The folder after which results are named: --input_dir, or what --a_dir and --b_dir share;
    None without any."""
    if not from_folders(options):
        folder = options.input_dir
        return os.path.dirname(os.path.abspath(folder)) if folder and os.path.isfile(folder) \
            else folder
    folders = [os.path.abspath(folder) for _, folder in list_sources(options)]
    parent = os.path.dirname(folders[0])
    if len(folders) == 1:  # of data/A/val, whose partner would be data/B/val: data
        return os.path.dirname(parent) if holds_split(parent) else parent
    try:
        return os.path.commonpath([os.path.dirname(folder) for folder in folders])
    except ValueError:  # of two drives
        return parent


# --------------------------------------------------------------------------------------------------
# Default names
# --------------------------------------------------------------------------------------------------


def default_dir(input_dir, mode):
    """The folder that a mode uses for a dataset: facades/val, "test" -> facades_test; where the
    parent folder contains no train, val or test: own/photos, "test" -> photos_test."""
    folder = Path(os.path.abspath(input_dir))
    named = folder.parent if holds_split(folder.parent) else folder
    return f"{named.name or 'pix2pix'}_{mode}"


def find_old_run(input_dir):
    """The training folder of a dataset under the name that earlier versions gave it, always after
    the parent folder; None where it has none, or has one under today's name."""
    old = f"{Path(os.path.abspath(input_dir)).parent.name or 'pix2pix'}_train"
    new = default_dir(input_dir, "train")
    return old if old != new and holds_run(old) and not holds_run(new) else None


def default_train_dir(input_dir, resuming):
    """--output_dir of a training that does not give it."""
    new, old = default_dir(input_dir, "train"), find_old_run(input_dir)
    trained_on = old and read_path(old, "input_dir")
    if not trained_on or Path(trained_on).resolve() != Path(input_dir).resolve():
        return new
    if resuming:
        warn(printable(f"continuing {old}: there is no {new}, the default --output_dir today"))
        return old
    warn(printable(f"training in {new}, the default --output_dir today; {old} contains an earlier "
                   f"run on {input_dir}"))
    return new


def default_checkpoint(input_dir):
    """--checkpoint of a test or export that does not give it."""
    new, old = default_dir(input_dir, "train"), find_old_run(input_dir)
    if old is None:
        return new
    warn(printable(f"using the model in {old}, trained on {read_path(old, 'input_dir')}: there is "
                   f"no {new}, the default --checkpoint today"))
    return old


def explain_missing_input(values):
    """Why a command line needs --input_dir."""
    mode, output_dir = values["mode"], values["output_dir"]
    if not values["resume"]:
        return f"--input_dir{' or --checkpoint' if mode == 'export' else ''} is missing: " \
            "give a folder"
    if output_dir is None:
        return "--resume needs a run: give its --output_dir or --input_dir"
    if not holds_run(output_dir):
        return f"--resume finds no run in {output_dir}: {describe_missing(output_dir)}{name_runs()}"
    return f"{output_dir} does not say what it was trained on: give --input_dir"


def default_dirs(values):
    """output_dir and checkpoint of a command line, which need not give them. Raises UserError."""
    mode, checkpoint, input_dir = values["mode"], values["checkpoint"], dataset_dir(
        Options(**values))
    training = mode == "train" or mode == "check" and values["resume"]
    if input_dir is None and (mode != "export" or checkpoint is None):
        raise UserError(explain_missing_input(values))
    output_dir = values["output_dir"]
    checkpoint = find_checkpoint(checkpoint) if checkpoint else checkpoint
    if mode == "check" and not training:  # it writes no results
        return {"output_dir": output_dir, "checkpoint": checkpoint}
    if output_dir is None and input_dir is None:
        name = Path(os.path.abspath(checkpoint)).name.removesuffix("_train").removesuffix(".pict")
        output_dir = f"{name}_{mode}"
    elif output_dir is None:
        output_dir = default_train_dir(input_dir, values["resume"]) if training \
            else default_dir(input_dir, mode)
    if checkpoint is None and not training:
        checkpoint = default_checkpoint(input_dir)
    return {"output_dir": output_dir, "checkpoint": checkpoint}


# --------------------------------------------------------------------------------------------------
# What a mode may use
# --------------------------------------------------------------------------------------------------


def check_name(path, what, remedy="rename it"):
    """Raises UserError for a path that TensorFlow reads as a pattern or cannot write. what: the
    path as messages call it."""
    found = [character for character in PATTERN_CHARACTERS if character in path]
    if found:
        raise UserError(f"{what} has {' '.join(found)} in its name, which TensorFlow reads as a "
                        f"pattern: {remedy}")
    if os.fsencode(path).decode(errors="ignore") != path:
        raise UserError(f"{what} is not valid UTF-8, which TensorFlow cannot write: {remedy}")


def check_names(options, explicit):
    """Raises UserError where TensorFlow cannot use the names of the folders."""
    for flag, folder in (*list_sources(options), ("--output_dir", options.output_dir),
                         ("--checkpoint", options.checkpoint)):
        if folder == "":
            raise UserError(f"{flag} is empty: give a folder")
    touched = {"checkpoint", "output_dir"}
    if options.mode in ("test", "check"):  # Python writes the results, or there are none
        touched -= {"output_dir"}
    if (options.checkpoint or ".pict").endswith(".pict"):  # Python reads these
        touched -= {"checkpoint"}
    for name in sorted(touched):
        path = getattr(options, name)
        exists = os.path.exists(path) or os.path.exists(f"{path}.index")
        remedy = "separate folders by /" if "\\" in path and not exists else "rename it"
        check_name(path, f"--{name} {path}", remedy if name in explicit else f"give --{name}")


def refuse_run(output_dir):
    """Raises UserError where a folder already contains a run."""
    if holds_run(output_dir):
        raise UserError(f"--output_dir {output_dir} already contains a run: give "
                        "--resume to continue it, --overwrite to replace it, or another folder")


def refuse_missing_run(options):
    """Raises UserError where there is no run to resume."""
    if options.resume and not holds_run(options.output_dir):
        raise UserError(f"--resume finds no run in {options.output_dir}: remove the flag to start "
                        f"one{name_runs()}")


def check_source(flag, folder, options, explicit):
    """Raises UserError where a folder of images cannot be read."""
    if os.path.isfile(folder) and flag == "--input_dir" \
            and (options.mode == "test" or options.no_targets):
        return
    if not os.path.isdir(folder) and not {*SOURCES} & explicit:  # the run's, with --resume
        found = next(filter(os.path.isdir, stored_paths(folder, options.output_dir)), None)
        where = "no longer exists" if os.path.isabs(folder) \
            else "counts from where training was started and does not exist here"
        raise UserError(f"{options.output_dir} was trained on {folder}, which {where}: "
                        f"give {flag} {found or ''}".rstrip())
    if not os.path.isdir(folder):
        raise UserError(f"{flag} {folder} is not a folder: {describe_missing(folder)}")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(f"{flag} {folder} is not readable: check its permissions")


def check_sources(options, explicit):
    """Raises UserError where the folders of images cannot be read, or more are given than go
    together."""
    if options.input_dir is not None and from_folders(options):
        flag = "--a_dir" if options.a_dir else "--b_dir"
        raise UserError(f"--input_dir holds pairs side by side and {flag} one image of each: give "
                        "one of them")
    for flag, folder in list_sources(options):
        check_source(flag, folder, options, explicit)


def explain_missing_default(options):
    """Why there is no model where a test or export that names none looks for it."""
    flag, folder = list_sources(options)[0]
    train_dir = Path(folder).parent / "train"
    how = f" with --mode train --input_dir {train_dir}" \
        * (train_dir.is_dir() and not from_folders(options))
    return (f"there is no training folder {options.checkpoint}, the default for {flag} "
            f"{folder}: give --checkpoint{name_runs()} or train first{how}")


def refuse_model(path, flag, what, kinds):
    """Raises UserError for a path that is not a model. what: the model that it should be; kinds:
    all that are taken."""
    if os.path.exists(path):
        raise UserError(f"{flag} {path} is not {what}, it is {describe_path(path)}: give {kinds}")
    others = sorted(other.stem for other in Path(path).parent.glob("*.index"))
    if others and re.search(r"-\d+$", path):
        raise UserError(f"{flag} {path} does not exist: give one of those in "
                        f"{Path(path).parent} ({name_some(others)})")
    raise UserError(f"{flag} {path} is not a folder, checkpoint or .pict file: "
                    f"{describe_missing(path)}{name_runs()}")


def find_model(path):
    """The training folder, checkpoint's prefix or .pict file that --model names. Raises UserError.
    """
    found = find_checkpoint(str(path))
    if found != str(path) or os.path.exists(f"{found}.index") or os.path.isdir(found) \
            and (holds_run(found) or os.path.exists(os.path.join(found, "checkpoint"))):
        return found
    refuse_model(found, "--model", "a model", f"{MODEL_KINDS}{name_runs()}")


def check_checkpoint(options, explicit):
    """Raises UserError where --checkpoint cannot be a model."""
    path = options.checkpoint
    if path is None or os.path.isdir(path) or os.path.exists(f"{path}.index") \
            or path.endswith(".pict") and os.path.isfile(path):
        return
    if "checkpoint" not in explicit:
        raise UserError(explain_missing_default(options))
    refuse_model(path, "--checkpoint", "a checkpoint", CHECKPOINT_KINDS)


def check_own_folder(options, flag, folder):
    """Raises UserError where results would be written among the images of a dataset. flag: that
    names the folder."""
    input_dir, output_dir = Path(folder), Path(options.output_dir).resolve()
    if input_dir.is_file():
        input_dir = input_dir.parent
    parents = [input_dir.resolve().parent, Path(os.path.abspath(input_dir)).parent.resolve()]
    if input_dir.resolve() in (output_dir, output_dir / "images"):
        raise UserError(f"--output_dir {options.output_dir} would mix the results with the images "
                        f"of {flag}: choose another")
    if output_dir in parents and not options.resume:  # earlier versions trained there
        raise UserError(f"--output_dir {options.output_dir} is the folder that {flag} "
                        f"{input_dir} is in: choose another, such as "
                        f"{default_dir(dataset_dir(options), options.mode)}")
    if output_dir.parent in parents and output_dir.is_dir() and not holds_run(output_dir) \
            and read_mode(output_dir) is None and list_folder(output_dir).images:
        raise UserError(f"--output_dir {options.output_dir} contains images: choose another")


def check_output_dir(options):
    """Raises UserError where --output_dir cannot be written or is part of a dataset."""
    output_dir = Path(options.output_dir)
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"--output_dir {output_dir} is a file: give a folder")
    if output_dir.is_symlink() and not output_dir.exists():
        raise UserError(f"--output_dir {output_dir} is a broken link: remove it")
    existing = next(path for path in (output_dir, *output_dir.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"--output_dir {output_dir} is inside a file, {existing}: give a folder")
    if not os.access(existing, os.W_OK):
        raise UserError(f"--output_dir {output_dir} is not writable: choose another")
    for flag, folder in list_sources(options):
        check_own_folder(options, flag, folder)


def stored_paths(path, folder):
    """Where a path in a folder's options.json may lead: it counts from the folder in which the
    program was started, most likely one above."""
    return (start / path for start in (*Path(folder).resolve().parents, Path.cwd()))


def model_dir(checkpoint):
    """The folder of a checkpoint, which may be a training folder itself; a .pict file itself."""
    path = Path(checkpoint)
    is_prefix = path.suffix != ".pict" and not os.path.isdir(path) \
        and any(path.parent.glob("*.index"))
    return path.parent if is_prefix else path


def is_same_run(stored, checkpoint, folder):
    """Whether --checkpoint, as a folder's options.json has it, is of the same training folder as
    another one. Where it is no longer there it may have been moved, with its name."""
    now = model_dir(checkpoint).resolve()
    for path in map(model_dir, stored_paths(stored, folder)):
        if os.path.exists(path):
            return path.resolve() == now
    return now.name in (Path(stored).name, Path(stored).parent.name)


def check_results(options):
    """Raises UserError where results would replace anything but results of the same mode and model.
    """
    mode, output_dir = options.mode, Path(options.output_dir)
    if mode != "train" and holds_run(output_dir):
        raise UserError(f"--output_dir {output_dir} contains a training run: choose another")
    if options.checkpoint and (mode == "export" or options.overwrite):
        checkpoint = Path(options.checkpoint).resolve()
        if output_dir.resolve() in (checkpoint, checkpoint.parent):
            raise UserError(f"--checkpoint {options.checkpoint} is in --output_dir and would be "
                            "replaced: choose another --output_dir")
    if mode == "train":
        refuse_missing_run(options)
    if mode == "train" and not options.resume and not options.overwrite:
        refuse_run(output_dir)
    earlier = find_results(output_dir, mode)
    if earlier and read_mode(output_dir) != mode and not holds_run(output_dir):
        raise UserError(f"{earlier[0]} would be replaced, but --mode {mode} did not write "
                        "it: choose another --output_dir")
    stored = read_path(output_dir, "checkpoint")
    if earlier and mode != "train" and stored \
            and not is_same_run(stored, options.checkpoint, output_dir):
        raise UserError(f"--output_dir {output_dir} contains the {mode} of another model, {stored}:"
                        f" give another --output_dir for {options.checkpoint}")


def check_folders(options, explicit):
    """Raises UserError where the folders are not what the mode needs; creates nothing. explicit:
    names of the flags that were given."""
    check_names(options, explicit)
    if options.mode != "export":
        check_sources(options, explicit)
    check_checkpoint(options, explicit)
    if options.mode == "check":
        refuse_missing_run(options)
        return
    check_output_dir(options)
    check_results(options)


# --------------------------------------------------------------------------------------------------
# Filling a folder
# --------------------------------------------------------------------------------------------------


def without_devices(options):
    """The options that tell what a result is, as a dict: not where it was computed."""
    return {name: value for name, value in vars(options).items() if name not in DEVICE_OPTIONS}


def write_options(options):
    """Writes options.json, which --resume and users of the model read."""
    write_json(Path(options.output_dir) / "options.json",
               without_devices(with_options(options, resume=False)))


def prepare_run(options):
    """Prepares a training folder; --overwrite removes the files of the run in it. Raises UserError
    where another run has begun there meanwhile."""
    output_dir = Path(options.output_dir)
    if not options.resume and not options.overwrite:
        refuse_run(output_dir)
    if options.overwrite:
        remove_results(output_dir, "train")
    (output_dir / "images").mkdir(parents=True, exist_ok=True)
    write_options(options)


def prepare_test(options):
    """Prepares a test folder and removes the results of an earlier test."""
    output_dir = Path(options.output_dir)
    (output_dir / "images").mkdir(parents=True, exist_ok=True)
    remove_results(output_dir, "test")
    write_options(options)
