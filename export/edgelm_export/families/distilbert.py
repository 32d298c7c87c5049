"""DistilBERT (Sanh et al., 2019; `DistilBertModel` of transformers): BERT with names of its own, and no segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgelm_export.encoder import TASKS, Architecture, Head, LayerNames, Shape, build_encoder, check_encoder
from edgelm_export.families import Wanted, Weights
from edgelm_export.graph import Model
from edgelm_export.quantize import Scheme

__all__ = ["TASKS", "build", "check"]

ARCHITECTURE = Architecture(
    "distilbert", Head("pre_classifier", "relu", "classifier"), segments=False, layers="transformer.layer",
    layer=LayerNames(
        "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm",
        "ffn.lin1", "ffn.lin2", "output_layer_norm",
    ),
)  # fmt: skip
_EPSILON = 1e-12  # of every norm: no field of the configuration says it


def check(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedCheckpoint for a field that the graph would not honour."""
    check_encoder(config, width="dim", heads="n_heads", activation="activation")


def build(weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted) -> Model:
    """An encoder as `build_encoder` describes it; ``sinusoidal_pos_embds`` are stored as a table like others."""
    shape = Shape(int(config["n_layers"]), int(config["n_heads"]), config["activation"], _EPSILON)
    return build_encoder(ARCHITECTURE, shape, weights, scheme, wanted)
