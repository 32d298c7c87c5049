"""Qwen3 for generation (Qwen Team, 2025; `Qwen3ForCausalLM` of transformers): Llama with a norm in every head."""

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
    bias = bool(config.get("attention_bias", False))
    traits = Traits(qkv_bias=bias, output_bias=bias, head_norms=True, windows=windows(config))
    return build_gated(weights, config, scheme, wanted, traits)
