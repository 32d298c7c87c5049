"""Rotary position embeddings (Su et al., 2021) as tables, in the kinds of scaling that transformers knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.families import refuse

KINDS = ("default", "linear", "dynamic", "llama3", "yarn")


@dataclass(frozen=True)
class Rotary:
    """Cosines and sines, float32 [positions, head size / 2]."""

    cos: NDArray[np.float32]
    sin: NDArray[np.float32]


def check_rotary(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedCheckpoint for a kind of rotation that the tables would not honour."""
    parameters = config.get("rope_parameters") or {}
    kind = parameters.get("rope_type", "default")
    if kind not in KINDS:
        raise refuse("rope_parameters.rope_type", kind, ", ".join(KINDS))
    partial = parameters.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if partial != 1:
        raise refuse("partial_rotary_factor", partial, "1.0, the whole head")


def rotary(config: Mapping[str, Any], positions: int) -> Rotary:
    """The tables of a checkpoint for a context of ``positions``.

    Frequencies are transformers' own. The dynamic kind changes them beyond ``max_position_embeddings`` only, where no
    context of ours goes: up to there it is the default.
    """
    from transformers import CONFIG_MAPPING
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters = config.get("rope_parameters") or {}
    kind = parameters.get("rope_type", "default")
    size = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    factor = 1.0
    if kind in ("default", "dynamic"):
        theta = float(parameters.get("rope_theta", 10000.0))
        frequencies = 1.0 / theta ** (np.arange(0, size, 2, dtype=np.float32) / np.float32(size))
    else:
        whole = CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
        tensor, factor = ROPE_INIT_FUNCTIONS[kind](whole, None)
        frequencies = tensor.numpy()
    angles = np.outer(np.arange(positions, dtype=np.float32), frequencies.astype(np.float32))
    return Rotary((np.cos(angles) * factor).astype(np.float32), (np.sin(angles) * factor).astype(np.float32))
