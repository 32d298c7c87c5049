"""Llama for generation (Touvron et al., 2023; `LlamaForCausalLM` of transformers), SmolLM among others.

Mistral and Qwen differ from it in a few traits, and share its graph.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgelm_export.decoder import Decoder, Heads, Stored, check_heads, head
from edgelm_export.families import Wanted, Weights, refuse
from edgelm_export.graph import ACTIVATIONS, Model, Value
from edgelm_export.quantize import Scheme
from edgelm_export.rotary import check_rotary, rotary

TASKS = ("text-generation",)


@dataclass(frozen=True)
class Traits:
    """What tells the relatives apart: which projections have a bias, norms of every head, and windows by layer."""

    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_norms: bool = False
    windows: Sequence[int] = ()  # tokens that each layer sees, 0 all; empty: every layer sees all


def check(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedCheckpoint for a field that the graph would not honour."""
    check_gated(config)
    if config.get("pretraining_tp", 1) != 1:
        raise refuse("pretraining_tp", config["pretraining_tp"], "1")


def build(weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted) -> Model:
    """A generator as `Decoder` describes it, with rotary positions."""
    attention_bias = bool(config.get("attention_bias", False))
    traits = Traits(attention_bias, attention_bias, bool(config.get("mlp_bias", False)))
    return build_gated(weights, config, scheme, wanted, traits)


def check_gated(config: Mapping[str, Any]) -> None:
    """What all relatives of Llama ask of a configuration."""
    activation = config.get("hidden_act", "silu")
    if activation not in ACTIVATIONS:
        raise refuse("hidden_act", activation, ", ".join(ACTIVATIONS))
    check_rotary(config)
    check_heads(_heads(config), "num_attention_heads", config["num_attention_heads"])
    if _heads(config).size % 16:
        raise refuse("head_dim", _heads(config).size, "a multiple of 16, which the rotation's kernel needs")


def windows(config: Mapping[str, Any]) -> list[int]:
    """The window of every layer, from ``layer_types``."""
    kinds = config.get("layer_types") or ["full_attention"] * int(config["num_hidden_layers"])
    size = config.get("sliding_window")
    unknown = set(kinds) - {"full_attention", "sliding_attention"}
    if unknown:
        raise refuse("layer_types", sorted(unknown), "full_attention, sliding_attention")
    return [int(size) if kind == "sliding_attention" and size else 0 for kind in kinds]


def build_gated(weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted, traits: Traits) -> Model:
    """The graph that Llama and its relatives share."""
    decoder = Decoder(str(config["model_type"]), _heads(config), scheme, rotary(config, wanted.context))
    stored = Stored(decoder, weights)
    epsilon = float(config.get("rms_norm_eps", 1e-6))
    x = stored.embedded("model.embed_tokens")
    for layer in range(int(config["num_hidden_layers"])):
        prefix = f"model.layers.{layer}"
        inner = stored.rms_norm(x, f"{prefix}.input_layernorm", epsilon)
        x = decoder.graph.add(x, _attention(stored, inner, layer, config, traits))
        inner = stored.rms_norm(x, f"{prefix}.post_attention_layernorm", epsilon)
        x = decoder.graph.add(x, _gated(stored, inner, f"{prefix}.mlp", config, traits))
    x = stored.rms_norm(decoder.last(x), "model.norm", epsilon)
    return head(stored, x, "model.embed_tokens", config)


def _attention(stored: Stored[Decoder], x: Value, layer: int, config: Mapping[str, Any], traits: Traits) -> Value:
    decoder, prefix = stored.frame, f"model.layers.{layer}.self_attn"
    qkv = [stored.linear(x, *(f"{prefix}.{part}_proj" for part in "qkv"), bias=traits.qkv_bias)]
    if traits.head_norms:
        query, key, value = decoder.graph.split(qkv[0], decoder.heads.split)
        epsilon = float(config.get("rms_norm_eps", 1e-6))
        qkv = [
            _norm_of_heads(stored, query, f"{prefix}.q_norm", epsilon),
            _norm_of_heads(stored, key, f"{prefix}.k_norm", epsilon),
            value,
        ]
    window = traits.windows[layer] if traits.windows else 0
    context = decoder.attention(layer, qkv, scale=1 / math.sqrt(decoder.heads.size), window=window)
    return stored.linear(context, f"{prefix}.o_proj", bias=traits.output_bias)


def _norm_of_heads(stored: Stored[Decoder], x: Value, name: str, epsilon: float) -> Value:
    graph, size = stored.frame.graph, stored.frame.heads.size
    return graph.joined(stored.rms_norm(graph.by_head(x, size), name, epsilon))


def _gated(stored: Stored[Decoder], x: Value, prefix: str, config: Mapping[str, Any], traits: Traits) -> Value:
    graph, width = stored.frame.graph, int(config["intermediate_size"])
    both = stored.linear(x, f"{prefix}.gate_proj", f"{prefix}.up_proj", bias=traits.mlp_bias)
    gate, up = graph.split(both, [width, width])
    inner = graph.multiply(graph.activation(gate, config.get("hidden_act", "silu")), up)
    return stored.linear(inner, f"{prefix}.down_proj", bias=traits.mlp_bias, outliers=True)


def _heads(config: Mapping[str, Any]) -> Heads:
    heads = int(config["num_attention_heads"])
    size = int(config.get("head_dim") or int(config["hidden_size"]) // max(heads, 1))
    return Heads(heads, int(config.get("num_key_value_heads") or heads), size)
