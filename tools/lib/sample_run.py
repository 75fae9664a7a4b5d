"""The run that shows the whole way: a small dataset is drawn, a model trained on it. What
quickstart.py and `serve.py --demo` have in common; standard library alone."""

from __future__ import annotations

from tools.lib import cli
from tools.lib.cli import RunError, say

# Trains for about three minutes on two cores.
NUM_TRAIN, NUM_VAL = 120, 12  # images
MAX_EPOCHS = 20
VAL_FREQ = 240  # steps; two epochs
NUM_FILTERS = 16  # --ngf and --ndf; the paper's networks have 64

SAMPLE_DIR, TRAIN_DIR = "sample", "sample_train"  # below the project's folder


def sample_command(python):
    """The command that draws the dataset."""
    return [python, "tools/make-sample.py", "--output_dir", SAMPLE_DIR,
            "--num_train", str(NUM_TRAIN), "--num_val", str(NUM_VAL), "--seed", "0"]


def train_command(python):
    """The command that trains, replacing an earlier run."""
    return [python, "pix2pix.py", "--mode", "train", "--input_dir", f"{SAMPLE_DIR}/train",
            "--val_dir", f"{SAMPLE_DIR}/val", "--val_freq", str(VAL_FREQ), "--output_dir",
            TRAIN_DIR, "--which_direction", "BtoA", "--ngf", str(NUM_FILTERS), "--ndf",
            str(NUM_FILTERS), "--max_epochs", str(MAX_EPOCHS), "--seed", "0", "--overwrite"]


def has_sample(root):
    """Whether an earlier run has drawn the whole dataset."""
    counts = [len(list((root / SAMPLE_DIR / part).glob("*.png"))) for part in ("train", "val")]
    return counts == [NUM_TRAIN, NUM_VAL]


def has_model(root):
    """Whether an earlier run has trained to its end."""
    last = NUM_TRAIN * MAX_EPOCHS
    return (root / TRAIN_DIR / f"model-{last}.index").is_file()


def run_command(root, command):
    """Runs a command in a folder; returns its exit code, 128 + n after signal n."""
    program = [str(root / command[0]), *command[1:]]  # an absolute command[0] stays as it is
    return cli.run_child(program, cwd=str(root))


def run_commands(commands, run):
    """Runs commands in order by a function of each that returns its exit code. Raises RunError with
    that of one that fails."""
    for command in commands:
        text = " ".join(command)
        say(f"$ {text}")
        code = run(command)
        if code == 130:
            raise KeyboardInterrupt
        if code:
            raise RunError(f"{text} failed with exit code {code}", code)


def list_commands(root, python):
    """The commands that draw the dataset, if it is not there, and train."""
    drawing = [] if has_sample(root) else [sample_command(python)]
    return [*drawing, train_command(python)]
