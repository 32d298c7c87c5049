"""How sure a difference between two models is that answered the same rows: intervals and paired tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap, permutation_test

from edgelm_runtime.errors import InputError

RESAMPLES = 2000
CONFIDENCE = 0.95
# Resamples held at once: 100 of 10,000 rows are 8 MB.
_BATCH = 100

Values = NDArray[np.float64]


def bootstrap_interval(
    differences: Values, *, seed: int = 0, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of per-row differences, float64 [rows].

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Raises:
        InputError: fewer than two rows, or one that is NaN or infinite.
    """
    checked = _checked(differences)
    interval = bootstrap(
        (checked,), np.mean, n_resamples=resamples, batch=_BATCH, vectorized=True,
        confidence_level=confidence, method="percentile", rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return float(interval.low), float(interval.high)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided p that A and B are equally often right, from the numbers of rows that only A and only B got right.

    McNemar (1947) with the exact binomial distribution: rows on which both agree say nothing.
    """
    if min(only_a, only_b) < 0:
        raise ValueError(f"numbers of rows are {only_a} and {only_b}; 0 or more are accepted")
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def paired_permutation(differences: Values, *, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """Two-sided p that per-row differences, float64 [rows], have a mean of zero, by turning their signs round.

    Exact where there are at most `resamples` ways to do so, else by that many draws (Fisher's randomization test).

    Raises:
        InputError: fewer than two rows, or one that is NaN or infinite.
    """
    found = permutation_test(
        (_checked(differences),), np.mean, permutation_type="samples", n_resamples=resamples, batch=_BATCH,
        vectorized=True, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.pvalue)


def _checked(differences: Values) -> Values:
    if differences.ndim != 1 or len(differences) < 2 or not np.isfinite(differences).all():
        raise InputError(
            f"differences of shape {differences.shape}: accepted are those of at least 2 rows, each a finite number; "
            "give an evaluation file with more rows"
        )
    return differences
