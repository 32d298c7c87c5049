"""OPT for generation (Zhang et al., 2022; `OPTForCausalLM` of transformers)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgelm_export.decoder import Decoder, Heads, Stored, check_heads, head
from edgelm_export.families import Wanted, Weights, refuse
from edgelm_export.graph import ACTIVATIONS, Model, Value
from edgelm_export.quantize import Scheme

TASKS = ("text-generation",)
_OFFSET = 2  # rows of the position table before that of the first token


def check(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedCheckpoint for a field that the graph would not honour."""
    activation = config.get("activation_function", "relu")
    if activation not in ACTIVATIONS:
        raise refuse("activation_function", activation, ", ".join(ACTIVATIONS))
    if not config.get("layer_norm_elementwise_affine", True):
        raise refuse("layer_norm_elementwise_affine", False, "true")
    check_heads(_heads(config), "num_attention_heads", config["num_attention_heads"])


def build(weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted) -> Model:
    """A generator as `Decoder` describes it, with learned positions."""
    decoder = Decoder("opt", _heads(config), scheme)
    stored = Stored(decoder, weights)
    prefix = "model.decoder"
    projected = int(config.get("word_embed_proj_dim") or config["hidden_size"]) != int(config["hidden_size"])
    x = stored.embedded(f"{prefix}.embed_tokens")
    if projected:
        x = stored.linear(x, f"{prefix}.project_in", bias=False)
    x = stored.placed(x, f"{prefix}.embed_positions", wanted.context, offset=_OFFSET)
    for layer in range(int(config["num_hidden_layers"])):
        x = _layer(stored, x, layer, config)
    x = decoder.last(x)
    if config.get("do_layer_norm_before", True) and not config.get("_remove_final_layer_norm", False):
        x = stored.layer_norm(x, f"{prefix}.final_layer_norm", 1e-5)
    if projected:
        x = stored.linear(x, f"{prefix}.project_out", bias=False)
    return head(stored, x, f"{prefix}.embed_tokens", config)


def _layer(stored: Stored[Decoder], x: Value, layer: int, config: Mapping[str, Any]) -> Value:
    prefix, bias = f"model.decoder.layers.{layer}", bool(config.get("enable_bias", True))
    graph, before = stored.frame.graph, bool(config.get("do_layer_norm_before", True))

    def normed(value: Value, name: str, here: bool) -> Value:
        return stored.layer_norm(value, f"{prefix}.{name}", 1e-5) if here else value

    inner = _attention(stored, normed(x, "self_attn_layer_norm", before), layer, bias)
    x = normed(graph.add(x, inner), "self_attn_layer_norm", not before)
    inner = stored.linear(normed(x, "final_layer_norm", before), f"{prefix}.fc1", bias=bias)
    inner = graph.activation(inner, config.get("activation_function", "relu"))
    inner = stored.linear(inner, f"{prefix}.fc2", bias=bias, outliers=True)
    return normed(graph.add(x, inner), "final_layer_norm", not before)


def _attention(stored: Stored[Decoder], x: Value, layer: int, bias: bool) -> Value:
    prefix = f"model.decoder.layers.{layer}.self_attn"
    packed = stored.linear(x, *(f"{prefix}.{part}_proj" for part in "qkv"), bias=bias)
    context = stored.frame.attention(layer, [packed], scale=1 / math.sqrt(stored.frame.heads.size))
    return stored.linear(context, f"{prefix}.out_proj", bias=bias)


def _heads(config: Mapping[str, Any]) -> Heads:
    heads = int(config["num_attention_heads"])
    return Heads(heads, heads, int(config["hidden_size"]) // max(heads, 1))
