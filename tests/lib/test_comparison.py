"""Paired comparisons of runs: differences, tests, verdicts in words."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from tools.lib import comparison
from tools.lib.metrics import METRICS

L1 = {"l1": METRICS["l1"]}


def scores_of(values, metric="l1"):
    """Name of an image -> metric -> value."""
    return {str(index): {metric: value} for index, value in enumerate(values)}


def compare(*runs, metric="l1"):
    """Comparisons of runs a, b, ..., each values of a metric."""
    named = {name: scores_of(values, metric) for name, values in zip("abcde", runs, strict=False)}
    return comparison.compare_runs(named, {metric: METRICS[metric]})


def draw(seed, count=60, mean=0.0):
    """Values of a run."""
    return np.random.default_rng(seed).normal(mean, 0.1, count)


def test_the_p_of_few_images_is_that_of_all_signs():
    differences = np.array([0.3, -0.1, 0.25, 0.4, 0.07, 0.2, -0.02])
    means = [abs(np.mean(differences * signs))
             for signs in itertools.product([1, -1], repeat=len(differences))]
    expected = np.mean([mean >= abs(differences.mean()) - 1e-12 for mean in means])
    assert comparison.sign_flip_test(differences) == pytest.approx(expected)


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.2])
def test_the_p_of_many_images_is_near_that_of_a_t_test(shift):
    differences = draw(4, mean=shift)
    expected = stats.ttest_1samp(differences, 0).pvalue
    p = comparison.sign_flip_test(differences)
    assert p == pytest.approx(expected, abs=0.02) and p == comparison.sign_flip_test(differences)


def test_holm_agrees_with_arithmetic():
    """Example: p 0.01, 0.04, 0.03 become 3 x 0.01, then the larger of 2 x 0.03 and 1 x 0.04."""
    assert comparison.correct_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert comparison.correct_holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert comparison.correct_holm([]) == []


def test_a_clear_difference_is_in_the_words():
    a = draw(1)
    (row,) = compare(a, a - 0.0123 + draw(2) / 100)
    low, high = row.interval
    assert row.verdict == "better" and low < row.difference < high < 0 and row.count == 60
    assert row.difference == pytest.approx(-0.0123, abs=0.001)
    assert row.words == (f"L1: b is better than a by {-row.difference:.3g} ({-high:.3g} to "
                         f"{-low:.3g}), p < 0.001")


def test_better_depends_on_the_metric():
    a = draw(1)
    for metric, change, verdict in (("l1", 0.1, "worse"), ("psnr", 0.1, "better"),
                                    ("ssim", -0.1, "worse")):
        (row,) = compare(a, a + change, metric=metric)
        assert (row.verdict, row.difference) == (verdict, pytest.approx(change))
        assert f"{METRICS[metric].label}: b is {verdict} than a by 0.1 (0.1 to 0.1)" in row.words


def test_a_difference_within_the_noise_is_called_that():
    (row,) = compare(draw(1), draw(3))
    assert row.verdict == "none" and row.p > 0.05
    assert row.words.startswith("L1: no difference beyond the noise between b and a (")
    (row,) = compare(draw(1), draw(1))
    assert (row.difference, row.p, row.verdict) == (0, 1, "none")


def test_more_runs_need_a_smaller_p():
    """One run at p 0.03 is better; as one of three it is not."""
    a = draw(1)
    noise = draw(7)
    shifts = np.linspace(0, 0.05, 200)
    shift = next(shift for shift in shifts if stats.ttest_1samp(noise + shift, 0).pvalue < 0.03)
    assert compare(a, a + noise + shift)[0].verdict == "worse"
    rows = compare(a, a + noise + shift, a + draw(8), a + draw(9))
    assert rows[0].verdict == "none" and rows[0].p > 3 * 0.02


@pytest.mark.parametrize("count, verdict", [(5, "too few"), (6, "better")])
def test_five_images_are_too_few(count, verdict):
    """Five of the same sign have a p of 2/32."""
    (row,) = compare(np.full(count, 0.5), np.full(count, 0.4))
    assert row.verdict == verdict and (row.p is None) == (count == 5)
    assert count == 6 or row.words == (
        "L1: too few images to tell b from a: 5 that both have, of at least 6")


def test_images_that_one_lacks_and_infinite_values_do_not_count():
    a, b = scores_of([1.0, 2, 3, math.inf, math.inf], "psnr"), scores_of([2.0, 3, 4, 5], "psnr")
    b["3"]["psnr"] = math.inf
    (row,) = comparison.compare_runs({"a": a, "b": b}, {"psnr": METRICS["psnr"]})
    assert (row.count, row.difference) == (3, 1)


def test_runs_without_a_common_image():
    (row,) = comparison.compare_runs({"a": scores_of([1.0]), "b": {"x": {"l1": 2.0}}}, L1)
    assert (row.count, row.difference, row.interval, row.p) == (0, None, None, None)
