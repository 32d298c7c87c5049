"""BERT (Devlin et al., 2019; `BertModel` of transformers): segments, and a pooler that classifiers read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgelm_export.encoder import TASKS, Architecture, Head, build_encoder, check_encoder, shape_of
from edgelm_export.families import Wanted, Weights
from edgelm_export.graph import Model
from edgelm_export.quantize import Scheme

__all__ = ["TASKS", "build", "check"]

ARCHITECTURE = Architecture("bert", Head("bert.pooler.dense", "tanh", "classifier"))
_NEXT_SENTENCE = Architecture("bert", Head("bert.pooler.dense", "tanh", "cls.seq_relationship"))


def check(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedCheckpoint for a field that the graph would not honour."""
    check_encoder(config)


def build(weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted) -> Model:
    """An encoder as `build_encoder` describes it."""
    from edgelm_export.checkpoint.loading import follows  # which reads checkpoints, and they name this

    architecture = _NEXT_SENTENCE if follows(config) else ARCHITECTURE
    return build_encoder(architecture, shape_of(config), weights, scheme, wanted)
