"""Mistral for generation (Jiang et al., 2023; `MistralForCausalLM` of transformers): Llama with a sliding window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgelm_export.families import Wanted, Weights
from edgelm_export.families.llama import Traits, build_gated, check_gated
from edgelm_export.graph import Model
from edgelm_export.quantize import Scheme

TASKS = ("text-generation",)


def check(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedCheckpoint for a field that the graph would not honour."""
    check_gated(config)


def build(weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted) -> Model:
    """A generator as `Decoder` describes it, with rotary positions."""
    window = int(config.get("sliding_window") or 0)
    return build_gated(weights, config, scheme, wanted, Traits(windows=[window] * int(config["num_hidden_layers"])))
