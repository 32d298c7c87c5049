"""GPT-2 for generation (Radford et al., 2019; `GPT2LMHeadModel` of transformers)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgelm_export.decoder import Decoder, Heads, Stored, check_heads, head
from edgelm_export.families import Wanted, Weights, refuse
from edgelm_export.graph import ACTIVATIONS, Model, Value
from edgelm_export.quantize import Scheme

TASKS = ("text-generation",)


def check(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedCheckpoint for a field that the graph would not honour."""
    activation = config.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise refuse("activation_function", activation, ", ".join(ACTIVATIONS))
    if config.get("add_cross_attention"):
        raise refuse("add_cross_attention", True, "false")
    heads = config["n_head"]
    if heads < 1 or config["n_embd"] % heads:
        raise refuse("n_head", heads, f"a divisor of n_embd = {config['n_embd']}")
    check_heads(_heads(config), "n_head", heads)


def build(weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted) -> Model:
    """A generator as `Decoder` describes it, with learned positions."""
    decoder = Decoder("gpt2", _heads(config), scheme)
    stored = Stored(decoder, weights)
    epsilon = float(config.get("layer_norm_epsilon", 1e-5))
    x = stored.placed(stored.embedded("transformer.wte"), "transformer.wpe", wanted.context)
    for layer in range(int(config["n_layer"])):
        prefix = f"transformer.h.{layer}"
        packed = _linear(stored, stored.layer_norm(x, f"{prefix}.ln_1", epsilon), f"{prefix}.attn.c_attn")
        attended = decoder.attention(layer, [packed], scale=_scale(layer, config))
        x = decoder.graph.add(x, _linear(stored, attended, f"{prefix}.attn.c_proj"))
        inner = _linear(stored, stored.layer_norm(x, f"{prefix}.ln_2", epsilon), f"{prefix}.mlp.c_fc")
        inner = decoder.graph.activation(inner, config.get("activation_function", "gelu_new"))
        x = decoder.graph.add(x, _linear(stored, inner, f"{prefix}.mlp.c_proj", outliers=True))
    x = stored.layer_norm(decoder.last(x), "transformer.ln_f", epsilon)
    return head(stored, x, "transformer.wte", config)


def _heads(config: Mapping[str, Any]) -> Heads:
    heads = int(config["n_head"])
    return Heads(heads, heads, int(config["n_embd"]) // max(heads, 1))


def _scale(layer: int, config: Mapping[str, Any]) -> float:
    scale = 1.0
    if config.get("scale_attn_weights", True):
        scale /= math.sqrt(int(config["n_embd"]) // int(config["n_head"]))
    if config.get("scale_attn_by_inverse_layer_idx", False):
        scale /= layer + 1
    return scale


def _linear(stored: Stored[Decoder], x: Value, name: str, *, outliers: bool = False) -> Value:
    # GPT-2's Conv1D stores its weights [in, out] already.
    weight, bias = stored.weights(f"{name}.weight"), stored.weights(f"{name}.bias")
    return stored.scheme.linear(stored.frame.graph, x, weight, bias, name, outliers=outliers)
