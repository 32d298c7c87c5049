"""Qwen2 for generation (Yang et al., 2024; `Qwen2ForCausalLM` of transformers): Llama with biases and windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgelm_export.families import Wanted, Weights
from edgelm_export.families.llama import Traits, build_gated, check_gated, windows
from edgelm_export.graph import Model
from edgelm_export.quantize import Scheme

TASKS = ("text-generation",)


def check(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedCheckpoint for a field that the graph would not honour."""
    check_gated(config)
    windows(config)


def build(weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted) -> Model:
    """A generator as `Decoder` describes it, with rotary positions."""
    return build_gated(weights, config, scheme, wanted, Traits(qkv_bias=True, windows=windows(config)))
