"""tools/lib/validation.py: what follows from validations, and which pictures are kept."""

import pytest

from tools.lib.cli import Options
from tools.lib.dataset import ImageList
from tools.lib.validation import (Validation, choose_samples, find_best, is_exhausted, kept_steps,
                                  read_history)


def history_of(*values):
    """Validations every 10 steps."""
    return [Validation(10 * number, value) for number, value in enumerate(values, 1)]


@pytest.mark.parametrize("metric, values, step", [
    ("l1", [0.3, 0.2, 0.25], 20), ("l1", [0.2, 0.3, 0.2], 10), ("psnr", [11, 13, 12], 20),
    ("psnr", [11, float("inf"), 12], 20), ("ssim", [0.4, 0.4, 0.5], 30)])
def test_the_best_is_the_first_of_the_best(metric, values, step):
    assert find_best(history_of(*values), metric).step == step
    assert find_best([], metric) is None


@pytest.mark.parametrize("values, patience, expected", [
    ([3, 2, 1], 1, False), ([3, 2, 2], 1, True), ([3, 2, 2.5], 2, False), ([1, 2, 2], 2, True),
    ([1, 2, 3, 4], 0, False), ([], 1, False), ([1], 1, False)])
def test_patience_counts_the_validations_since_the_best(values, patience, expected):
    options = Options(val_metric="l1", patience=patience)
    assert is_exhausted(history_of(*values), options) is expected


def test_rows_of_the_log_without_a_validation_are_none():
    rows = [{"step": "5", "val_l1": "", "val_psnr": ""}, {"step": "7", "val_l1": "0.25"},
            {"step": "9", "val_l1": None}, {"step": "14", "val_l1": "inf"}]
    assert read_history(rows, "l1") == [Validation(7, 0.25), Validation(14, float("inf"))]
    assert read_history(rows[:2], "psnr") == []


def test_few_pictures_are_kept_of_however_many_steps():
    assert kept_steps([0, 10, 20, 25], 10) == [0, 10, 20, 25]
    assert kept_steps([], 10) == []
    kept = []
    for step in range(0, 10001, 10):
        kept = kept_steps([*kept, step], 10)
        assert len(kept) <= 102 and kept[0] == 0 and kept[-1] == step
    assert kept == list(range(0, 10001, 160)) + [10000]
    # a run that continues after step 35 has the same in the end
    parts = []
    for step in [*range(0, 40, 10), 35, *range(40, 10001, 10)]:
        parts = kept_steps([*parts, step], 10)
    assert parts == kept


@pytest.mark.parametrize("count, expected", [(1, [0]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]),
                                             (11, [0, 2, 5, 8]), (400, [0, 100, 200, 300])])
def test_samples_are_spread_over_the_images(count, expected):
    found = ImageList([(str(number),) for number in range(count)], [*map(str, range(count))], 1, 9)
    options = Options(sample_freq=1, val_dir=None, resize="stretch", native_size=False)
    assert choose_samples(found, options).names == [*map(str, expected)]
    assert not choose_samples(found, Options(**{**vars(options), "sample_freq": 0})).examples


def test_training_images_too_large_for_their_own_size_are_not_drawn():
    options = Options(sample_freq=1, val_dir=None, resize="none", native_size=False)
    for largest, count in ((2**21, 1), (2**21 + 1, 0)):
        assert len(choose_samples(ImageList([("a",)], ["a"], 1, largest), options).names) == count
    options = Options(**{**vars(options), "val_dir": ["val"]})  # which is asked for
    assert choose_samples(ImageList([("a",)], ["a"], 1, 2**22), options).names == ["a"]
