"""MPNet (Song et al., 2020; `MPNetModel` of transformers): attention is told how far apart two tokens stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.encoder import TASKS, Architecture, Head, LayerNames, build_encoder, check_encoder, shape_of
from edgelm_export.families import Wanted, Weights, refuse
from edgelm_export.graph import Model
from edgelm_export.quantize import Scheme

__all__ = ["TASKS", "build", "check"]

ARCHITECTURE = Architecture(
    "mpnet", Head("classifier.dense", "tanh", "classifier.out_proj"), segments=False,
    layer=LayerNames(
        "attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o", "attention.LayerNorm",
    ),
)  # fmt: skip
_BUCKETS, _FURTHEST = 32, 128  # transformers uses these, whatever the configuration says


def check(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedCheckpoint for a field that the graph would not honour."""
    check_encoder(config)
    buckets = config.get("relative_attention_num_buckets", _BUCKETS)
    if buckets != _BUCKETS:
        raise refuse("relative_attention_num_buckets", buckets, f"{_BUCKETS}, which transformers computes with")


def build(weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted) -> Model:
    """An encoder as `build_encoder` describes it, with a bias by distance that all layers share."""
    name = "encoder.relative_attention_bias.weight"
    table = weights(f"mpnet.{name}" if f"mpnet.{name}" in weights else name)
    distances = np.arange(1 - wanted.context, wanted.context)
    return build_encoder(ARCHITECTURE, shape_of(config), weights, scheme, wanted, table[buckets(distances)])


def buckets(distances: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bucket of each distance (position of the key less that of the query), as T5 has them (Raffel et al., 2020).

    Half of the buckets is for keys that come later. In each half the nearest distances have one of their own, and the
    others share buckets that grow with the logarithm, up to ``_FURTHEST``.
    """
    half = _BUCKETS // 2
    exact = half // 2
    far = np.abs(distances).astype(np.float32)
    # In float32 as torch computes it: a distance at the edge of a bucket must fall on the same side.
    share = np.log(np.maximum(far, 1) / np.float32(exact)) / np.float32(np.log(_FURTHEST / exact))
    logarithmic = np.minimum(exact + (share * np.float32(half - exact)).astype(np.int64), half - 1)
    return np.where(distances > 0, half, 0) + np.where(far < exact, far.astype(np.int64), logarithmic)
