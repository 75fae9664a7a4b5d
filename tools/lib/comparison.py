"""Whether one run is better than another: paired differences, a test, and the verdict in words."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tools.lib.metrics import bootstrap_interval

LEVEL = 0.05  # a difference with a p below it is beyond the noise
MIN_IMAGES = 6  # with five, all 32 choices of signs give a p of at least 2 / 32
RESAMPLES = 9999  # of the test; where there are fewer choices of signs, it takes all
MAX_VALUES = 2**22  # of differences in memory
ABOUT = {
    "difference": "mean over the images that both runs have, run minus reference; images where "
                  "one of the two values is infinite are left out",
    "p": f"two-sided sign-flip permutation test of the mean difference, {RESAMPLES} resamples "
         "(scipy.stats.permutation_test), with Holm's correction over the runs compared by one "
         "metric",
    "verdict": f"better or worse where p is below {LEVEL}, none where it is not; too few for fewer "
               f"than {MIN_IMAGES} images"}


class Comparison(NamedTuple):
    """A run against the reference by one metric; see ABOUT."""

    metric: str  # key of the metric
    run: str
    reference: str
    count: int  # of images
    difference: float | None  # None: there is no image
    interval: list | None  # of the difference: low and high
    p: float | None  # None: too few images
    verdict: str  # "better", "worse", "none" or "too few"
    words: str


def paired_differences(scores, reference, metric):
    """Finite differences of a metric over the images that both have. scores, reference: name of an
    image -> name of a metric -> value."""
    pairs = [(values[metric], reference[name][metric]) for name, values in scores.items()
             if name in reference]
    values, others = np.array(pairs, np.float64).reshape(-1, 2).T
    with np.errstate(invalid="ignore"):  # infinite minus infinite
        differences = values - others
    return differences[np.isfinite(differences)]


def sign_flip_test(differences):
    """The p of the mean of differences being 0 but for chance, by flipping their signs."""
    from scipy import stats  # slow to import
    return float(stats.permutation_test(
        (differences,), lambda values, axis: values.mean(axis=axis), vectorized=True,
        permutation_type="samples", n_resamples=RESAMPLES,
        batch=max(1, MAX_VALUES // len(differences)),
        random_state=np.random.default_rng(0)).pvalue)


def correct_holm(values):
    """Holm's correction of p values for their number (Holm 1979)."""
    corrected, highest = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = highest
    return corrected


def p_text(p):
    """A p for people."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def choose_verdict(difference, p, better):
    """"better", "worse" or "none". better: "lower" or "higher"."""
    if p >= LEVEL:
        return "none"
    return "better" if (difference < 0) == (better == "lower") else "worse"


def describe(comparison, label):
    """A Comparison in words. label: of its metric."""
    run, reference = comparison.run, comparison.reference
    if comparison.verdict == "too few":
        return (f"{label}: too few images to tell {run} from {reference}: {comparison.count} that "
                f"both have, of at least {MIN_IMAGES}")
    difference, (low, high) = comparison.difference, comparison.interval
    if comparison.verdict == "none":
        return (f"{label}: no difference beyond the noise between {run} and {reference} "
                f"({difference:.3g}, {low:.3g} to {high:.3g}, {p_text(comparison.p)})")
    low, high = sorted([abs(low), abs(high)]) if low * high > 0 else (low, high)
    return (f"{label}: {run} is {comparison.verdict} than {reference} by {abs(difference):.3g} "
            f"({low:.3g} to {high:.3g}), {p_text(comparison.p)}")


def compare_runs(runs, metrics):
    """A Comparison of each run with the first, by each metric. runs: name -> image -> name of a
    metric -> value; metrics: name -> Metric."""
    (reference, reference_scores), *others = runs.items()
    comparisons = []
    for key, metric in metrics.items():
        found = [(run, paired_differences(scores, reference_scores, key)) for run, scores in others]
        tested = [run for run, differences in found if len(differences) >= MIN_IMAGES]
        p_values = dict(zip(tested, correct_holm([
            sign_flip_test(differences) for _, differences in found
            if len(differences) >= MIN_IMAGES]), strict=True))
        for run, differences in found:
            mean = float(differences.mean()) if len(differences) else None
            p = p_values.get(run)
            comparison = Comparison(
                key, run, reference, len(differences), mean,
                bootstrap_interval(differences) if len(differences) > 1 else None, p,
                "too few" if p is None else choose_verdict(mean, p, metric.better), "")
            comparisons.append(comparison._replace(words=describe(comparison, metric.label)))
    return comparisons
