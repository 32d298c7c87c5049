"""GPT-2 for generation (Radford et al., 2019; `GPT2LMHeadModel` of transformers)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgelm_export.families import Weights, refuse
from edgelm_export.graph import ACTIVATIONS, MICROSOFT, GraphBuilder, Value
from edgelm_export.quantize import Scheme

TASK = "text-generation"


def check(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedCheckpoint for a field that the graph would not honour."""
    activation = config.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise refuse("activation_function", activation, ", ".join(ACTIVATIONS))
    if config.get("add_cross_attention"):
        raise refuse("add_cross_attention", True, "false")
    heads = config["n_head"]
    # GroupQueryAttention's kernel reads eight numbers of a head at once.
    if heads < 1 or config["n_embd"] % heads or config["n_embd"] // heads % 8:
        raise refuse("n_head", heads, f"a divisor of n_embd = {config['n_embd']} with a multiple of 8 numbers a head")


def build(weights: Weights, config: Mapping[str, Any], scheme: Scheme) -> bytes:
    """A generator with past and present in one buffer, and logits of the last position only.

    Inputs ``input_ids`` and ``position_ids`` int64 [batch, sequence], ``seqlens_k`` int32 [batch],
    ``total_sequence_length`` int32 scalar, ``past_key_values.N.key|value`` float32 [batch, heads, capacity, head_size];
    outputs ``logits`` float32 [batch, vocab] and ``present.N.key|value``, to be bound to the past's memory.
    """
    graph = GraphBuilder("gpt2")
    cache = _Cache(
        graph.input("seqlens_k", ir.DataType.INT32, ["batch"]),
        graph.input("total_sequence_length", ir.DataType.INT32, []),
        ["batch", int(config["n_head"]), "capacity", int(config["n_embd"]) // int(config["n_head"])],
    )
    ids = graph.input("input_ids", ir.DataType.INT64, ["batch", "sequence"])
    positions = graph.input("position_ids", ir.DataType.INT64, ["batch", "sequence"])
    table = weights("transformer.wte.weight")
    x = graph.add(
        scheme.embedding(graph, ids, table, "wte"),
        scheme.embedding(graph, positions, weights("transformer.wpe.weight"), "wpe"),
    )
    for layer in range(int(config["n_layer"])):
        x = _layer(graph, x, layer, weights, config, scheme, cache)
    x = _norm(graph, graph.row(x, -1), "transformer.ln_f", weights, config)
    if _is_tied(weights, config, table):
        logits = scheme.tied_head(graph, x, table, "wte")
    else:
        logits = scheme.tied_head(graph, x, weights("lm_head.weight"), "lm_head")
    graph.output(logits, "logits", ir.DataType.FLOAT, ["batch", table.shape[0]])
    return graph.serialize()


def _is_tied(weights: Weights, config: Mapping[str, Any], table: NDArray[Any]) -> bool:
    """As transformers decides: a head of its own that differs from the table is not tied, whatever the field says."""
    if not config.get("tie_word_embeddings", True):
        return False
    return "lm_head.weight" not in weights or np.array_equal(weights("lm_head.weight"), table)


@dataclass(frozen=True)
class _Cache:
    """What every attention needs to know of the cache."""

    seqlens_k: Value
    total_sequence_length: Value
    shape: list[int | str]


def _layer(
    graph: GraphBuilder, x: Value, layer: int, weights: Weights, config: Mapping[str, Any], scheme: Scheme,
    cache: _Cache,
) -> Value:  # fmt: skip
    prefix = f"transformer.h.{layer}"
    packed = _linear(
        graph, _norm(graph, x, f"{prefix}.ln_1", weights, config), f"{prefix}.attn.c_attn", weights, scheme
    )
    context = _attention(graph, packed, layer, config, cache)
    x = graph.add(x, _linear(graph, context, f"{prefix}.attn.c_proj", weights, scheme))
    inner = _linear(graph, _norm(graph, x, f"{prefix}.ln_2", weights, config), f"{prefix}.mlp.c_fc", weights, scheme)
    inner = graph.activation(inner, config.get("activation_function", "gelu_new"))
    return graph.add(x, _linear(graph, inner, f"{prefix}.mlp.c_proj", weights, scheme, outliers=True))


def _attention(graph: GraphBuilder, packed: Value, layer: int, config: Mapping[str, Any], cache: _Cache) -> Value:
    heads = int(config["n_head"])
    past = [graph.input(f"past_key_values.{layer}.{part}", ir.DataType.FLOAT, cache.shape) for part in ("key", "value")]
    attributes = {"num_heads": heads, "kv_num_heads": heads, "scale": _scale(layer, config)}
    inputs = [packed, None, None, *past, cache.seqlens_k, cache.total_sequence_length]
    context, key, value = graph.op("GroupQueryAttention", inputs, attributes, domain=MICROSOFT, outputs=3)
    graph.output(key, f"present.{layer}.key", ir.DataType.FLOAT, cache.shape)
    graph.output(value, f"present.{layer}.value", ir.DataType.FLOAT, cache.shape)
    return context


def _scale(layer: int, config: Mapping[str, Any]) -> float:
    scale = 1.0
    if config.get("scale_attn_weights", True):
        scale /= math.sqrt(int(config["n_embd"]) // int(config["n_head"]))
    if config.get("scale_attn_by_inverse_layer_idx", False):
        scale /= layer + 1
    return scale


def _linear(
    graph: GraphBuilder, x: Value, name: str, weights: Weights, scheme: Scheme, *, outliers: bool = False
) -> Value:
    # GPT-2's Conv1D stores its weights [in, out] already.
    return scheme.linear(graph, x, weights(f"{name}.weight"), weights(f"{name}.bias"), name, outliers=outliers)


def _norm(graph: GraphBuilder, x: Value, name: str, weights: Weights, config: Mapping[str, Any]) -> Value:
    epsilon = float(config.get("layer_norm_epsilon", 1e-5))
    return graph.layer_norm(x, weights(f"{name}.weight"), weights(f"{name}.bias"), epsilon, name)
