"""What scores a classifier of texts gives: those of CrossEncoder where the folder is one's, else transformers' own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgelm_export.families import refuse
from edgelm_runtime.manifest import MULTI_LABEL, REGRESSION

# Of torch's classes; Softmax goes over the labels.
ACTIVATIONS = {"Identity": "none", "Sigmoid": "sigmoid", "Softmax": "softmax"}
_OLD = "sbert_ce_default_activation_function"  # before version 4


def is_marked(config: Mapping[str, Any]) -> bool:
    """Whether config.json says that CrossEncoder saved it."""
    return bool(config.get("sentence_transformers") or config.get(_OLD))


def cross_encoder_function(config: Mapping[str, Any], written: object, labels: int) -> str:
    """What CrossEncoder applies: ``written``, or what config.json names, or by the number of labels.

    Raises:
        UnsupportedCheckpoint: an activation of another kind.
    """
    settings = config.get("sentence_transformers")
    settings = settings if isinstance(settings, Mapping) else {}
    named = written or (settings["activation_fn"] if "activation_fn" in settings else config.get(_OLD))
    if named is None:
        return "sigmoid" if labels == 1 else "none"
    module, _, name = str(named).rpartition(".")
    if not module.startswith("torch.") or name not in ACTIVATIONS:
        raise refuse("activation_fn", named, f"of torch.nn: {', '.join(ACTIVATIONS)}", "the CrossEncoder's settings")
    return ACTIVATIONS[name]


def pipeline_function(config: Mapping[str, Any], labels: int) -> str:
    """What transformers' text classification applies."""
    if config.get("problem_type") == REGRESSION:
        return "none"
    return "sigmoid" if config.get("problem_type") == MULTI_LABEL or labels == 1 else "softmax"
