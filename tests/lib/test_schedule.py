"""tools/lib/schedule.py: what tests of whole runs do not pin: flags, epochs, the lines printed."""

from types import SimpleNamespace

import pytest

from tools.lib import schedule
from tools.lib.cli import UserError
from tools.lib.schedule import ENDLESS, Progress


@pytest.mark.parametrize("count, step_size, expected", [
    (1, 1, 1), (7, 1, 7), (7, 2, 4), (8, 2, 4), (7, 7, 1), (7, 8, 1), (400, 3, 134)])
def test_steps_per_epoch(count, step_size, expected):
    """The last step of an epoch may take fewer examples."""
    assert schedule.steps_per_epoch(count, step_size) == expected


def test_a_step_takes_a_batch_per_accumulated_gradient():
    options = SimpleNamespace(batch_size=3, grad_accumulation=5)
    assert schedule.examples_per_step(options) == 15


def options_of(**changes):
    """The options that `check` looks at, of training until stopped."""
    return SimpleNamespace(**{"mode": "train", "lr_decay": "none", "max_steps": None,
                              "max_epochs": None, **changes})


@pytest.mark.parametrize("changes, explicit, text", [
    ({"lr_decay": "cosine"}, (), "--lr_decay cosine needs an end: give --max_steps, --max_epochs"),
    ({"max_steps": 9}, {"decay_from"}, "--decay_from needs a decay: give --lr_decay linear or"),
    ({"max_steps": 9}, {"decay_from_epoch"}, "--decay_from needs a decay"),
    ({"max_steps": 9, "lr_decay": "linear"}, {"decay_from", "decay_from_epoch"},
     "--decay_from and --decay_from_epoch contradict each other: give one")])
def test_flags_that_contradict_each_other(changes, explicit, text):
    with pytest.raises(UserError) as caught:
        schedule.check(options_of(**changes), {*explicit})
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("changes, explicit", [
    ({}, ()), ({"max_epochs": 2, "lr_decay": "linear"}, {"decay_from_epoch"}),
    ({"max_steps": 2, "lr_decay": "cosine"}, {"lr_decay", "decay_from"}),
    ({"mode": "test", "lr_decay": "linear"}, ())])  # a trained model's option
def test_flags_that_go_together(changes, explicit):
    schedule.check(options_of(**changes), {*explicit})


@pytest.mark.parametrize("step, stop_step, steps_timed, seconds, expected", [
    # 12 images in 4 steps of an epoch: 3 images in each of 0.5 s, 10 - 6 steps remain
    (6, 10, 4, 2.0, Progress(2, 2, 6.0, 2.0)),
    (4, 10, 4, 2.0, Progress(1, 4, 6.0, 3.0)),
    (5, 10, 4, 2.0, Progress(2, 1, 6.0, 2.5)),
    (10, 10, 10, 5.0, Progress(3, 2, 6.0, 0.0)),
    (2, ENDLESS, 2, 1.0, Progress(1, 2, 6.0, None)),
    # nothing is told of a time that was not measured, or by a clock that was set back
    (1, 10, 0, 3e-6, Progress(1, 1)), (2, 10, 1, 0.5, Progress(1, 2)),
    (3, 10, 2, 0.0, Progress(1, 3)), (3, 10, 2, -5.0, Progress(1, 3))])
def test_progress(step, stop_step, steps_timed, seconds, expected):
    assert schedule.measure_progress(step, stop_step, 4, 12, steps_timed, seconds) == expected


def test_progress_lines_are_affinelayers():
    averages = {"discrim_loss": 1.386294361, "gen_loss_GAN": 0.5, "gen_loss_L1": 12345678.0}
    assert schedule.progress_lines(Progress(3, 17, 5.25, 150.0), averages) == (
        "progress  epoch 3  step 17  image/sec 5.2  remaining 2m\n"
        "discrim_loss 1.38629\ngen_loss_GAN 0.5\ngen_loss_L1 1.23457e+07")
    assert schedule.progress_lines(Progress(1, 2, 0.04), {}) == (
        "progress  epoch 1  step 2  image/sec 0.0")
    assert schedule.progress_lines(Progress(1, 1), {"discrim_loss": 0.5}) == (
        "progress  epoch 1  step 1\ndiscrim_loss 0.5")
