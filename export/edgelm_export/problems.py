"""What the outputs of two models have in common, by the problem that they solve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelm_runtime.manifest import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from edgelm_runtime.tasks.probabilities import sigmoid, softmax

Values = NDArray[np.float32]
SIMILAR = 0.99  # cosine of vectors that say the same
CLOSE = 0.05  # of two numbers' size, or of one


@dataclass(frozen=True)
class Problem:
    """How two outputs for one input are compared; the first is the reference's.

    ``distance`` is 0 for the same and 1 for what has nothing in common, ``agreement`` the share of decisions that are
    the same, ``divergence`` the Kullback-Leibler divergence in nats, 0 where there are no probabilities.
    """

    distance: Callable[[Values, Values], float]
    agreement: Callable[[Values, Values], float]
    divergence: Callable[[Values, Values], float]


def problem_of(task: str, problem_type: str = SINGLE_LABEL) -> Problem:
    """The problem of a task of Hugging Face's; the type is that of a text classifier."""
    return PROBLEMS[problem_type if task == "text-classification" else task]


def distance(left: Values, right: Values) -> float:
    """Total variation distance of the probabilities of two rows of logits, in 0..1; of several rows the mean."""
    return float(0.5 * np.abs(softmax(left) - softmax(right)).sum(axis=-1).mean())


def kl_divergence(reference: Values, logits: Values) -> float:
    """Divergence of the probabilities of `logits` from the reference's, in nats: 0 is the same; of rows the mean."""
    wanted, found = log_softmax(reference), log_softmax(logits)
    return max(0.0, float((np.exp(wanted) * (wanted - found)).sum(axis=-1).mean()))


def log_softmax(logits: Values) -> NDArray[np.float64]:
    """Logarithms of probabilities along the last axis, in float64, which rounds none to 0."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _same_class(left: Values, right: Values) -> float:
    return float((left.argmax(axis=-1) == right.argmax(axis=-1)).mean())


def _labels_distance(left: Values, right: Values) -> float:
    return float(np.abs(sigmoid(left) - sigmoid(right)).max())


def _same_labels(left: Values, right: Values) -> float:
    return float(((left >= 0) == (right >= 0)).mean())


def _labels_divergence(reference: Values, logits: Values) -> float:
    """The sum over the labels, each a choice between yes and no."""
    pairs = [np.stack([values, np.zeros_like(values)], axis=-1) for values in (reference, logits)]
    return kl_divergence(*pairs) * reference.size


def _numbers_distance(left: Values, right: Values) -> float:
    """The largest difference, of numbers above 1 the relative one."""
    return float(min(1.0, (np.abs(left - right) / np.maximum(1.0, np.abs(left))).max()))


def _same_numbers(left: Values, right: Values) -> float:
    return float((np.abs(left - right) <= CLOSE * np.maximum(1.0, np.abs(left))).mean())


def _vectors_distance(left: Values, right: Values) -> float:
    """Half the distance of their directions: 0 the same, 1 opposite."""
    return float(0.5 * np.linalg.norm(_unit(left) - _unit(right)))


def _same_vectors(left: Values, right: Values) -> float:
    return float(_unit(left) @ _unit(right) >= SIMILAR)


def _unit(vector: Values) -> NDArray[np.float64]:
    exact = vector.astype(np.float64)
    unit: NDArray[np.float64] = exact / max(float(np.linalg.norm(exact)), 1e-12)
    return unit


def _no_divergence(reference: Values, logits: Values) -> float:
    return 0.0


_CLASSES = Problem(distance, _same_class, kl_divergence)
PROBLEMS: Mapping[str, Problem] = {
    SINGLE_LABEL: _CLASSES,
    MULTI_LABEL: Problem(_labels_distance, _same_labels, _labels_divergence),
    REGRESSION: Problem(_numbers_distance, _same_numbers, _no_divergence),
    "token-classification": _CLASSES,
    "feature-extraction": Problem(_vectors_distance, _same_vectors, _no_divergence),
    "text-generation": _CLASSES,
    "text2text-generation": _CLASSES,
}
