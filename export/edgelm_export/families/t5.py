"""T5 and its 1.1 and Flan kinds (Raffel et al., 2020; `T5ForConditionalGeneration` of transformers)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.decoder import Frame, Heads, Stored, check_heads
from edgelm_export.families import Wanted, Weights, refuse
from edgelm_export.graph import ACTIVATIONS, Model, Value
from edgelm_export.quantize import Scheme
from edgelm_export.seq2seq import TextDecoder, TextEncoder

TASKS = ("text2text-generation",)
_BIAS = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def check(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedCheckpoint for a field that the graph would not honour."""
    if config["dense_act_fn"] not in ACTIVATIONS:
        raise refuse("feed_forward_proj", config["feed_forward_proj"], f"one of {', '.join(ACTIVATIONS)}, or gated-...")
    check_heads(_heads(config), "d_kv", config["d_kv"])
    buckets = config["relative_attention_num_buckets"]
    if buckets < 4 or buckets % 2:
        raise refuse("relative_attention_num_buckets", buckets, "an even number from 4 on")


def build(weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted) -> Model:
    """Two graphs as `seq2seq` describes them, with a bias by distance that all layers share."""
    heads, context = _heads(config), wanted.context
    encoder = TextEncoder("t5", heads, scheme)
    decoder = TextDecoder("t5", heads, encoder)
    reading, writing = Stored(encoder, weights), Stored(decoder, weights)
    epsilon = float(config["layer_norm_epsilon"])

    x, bias = reading.embedded("shared"), _mutual_bias(reading, config, context)
    for layer in range(int(config["num_layers"])):
        prefix = f"encoder.block.{layer}.layer"
        packed = _packed(reading, reading.rms_norm(x, f"{prefix}.0.layer_norm", epsilon), f"{prefix}.0.SelfAttention")
        attended = encoder.attention(packed, scale=1.0, bias=bias)
        x = encoder.graph.add(x, reading.linear(attended, f"{prefix}.0.SelfAttention.o", bias=False))
        x = _forward(reading, x, f"{prefix}.1", config)
    x = reading.rms_norm(x, "encoder.final_layer_norm", epsilon)

    y, bias = writing.embedded("shared"), _causal_bias(writing, config, context)
    for layer in range(int(config["num_decoder_layers"])):
        prefix = f"decoder.block.{layer}.layer"
        names = [f"{prefix}.1.EncDecAttention.{part}" for part in "kv"]
        encoder.give(layer, reading.linear(x, *names, bias=False), heads)
        packed = _packed(writing, writing.rms_norm(y, f"{prefix}.0.layer_norm", epsilon), f"{prefix}.0.SelfAttention")
        attended = decoder.attention(layer, [packed], scale=1.0, bias=bias)
        y = decoder.graph.add(y, writing.linear(attended, f"{prefix}.0.SelfAttention.o", bias=False))
        normed = writing.rms_norm(y, f"{prefix}.1.layer_norm", epsilon)
        query = writing.linear(normed, f"{prefix}.1.EncDecAttention.q", bias=False)
        attended = decoder.text_attention(layer, query, scale=1.0)
        y = decoder.graph.add(y, writing.linear(attended, f"{prefix}.1.EncDecAttention.o", bias=False))
        y = _forward(writing, y, f"{prefix}.2", config)

    # The first T5 shrinks what its head reads; the scale of the last norm is where that costs nothing.
    shrunk = float(config["d_model"]) ** -0.5 if config.get("scale_decoder_outputs", False) else 1.0
    last = shrunk * weights("decoder.final_layer_norm.weight")
    y = decoder.graph.rms_norm(decoder.last(y), last, epsilon, "decoder.final_layer_norm")
    return decoder.finish(*writing.logits(y, "shared", config), encoder.graph)


def _heads(config: Mapping[str, Any]) -> Heads:
    heads = int(config["num_heads"])
    return Heads(heads, heads, int(config["d_kv"]))


def _packed(stored: Stored[Any], x: Value, prefix: str) -> Value:
    return stored.linear(x, *(f"{prefix}.{part}" for part in "qkv"), bias=False)


def _forward(stored: Stored[Any], x: Value, prefix: str, config: Mapping[str, Any]) -> Value:
    graph, dense = stored.frame.graph, f"{prefix}.DenseReluDense"
    normed = stored.rms_norm(x, f"{prefix}.layer_norm", float(config["layer_norm_epsilon"]))
    if config["is_gated_act"]:
        inner = graph.activation(stored.linear(normed, f"{dense}.wi_0", bias=False), config["dense_act_fn"])
        inner = graph.multiply(inner, stored.linear(normed, f"{dense}.wi_1", bias=False))
    else:
        inner = graph.activation(stored.linear(normed, f"{dense}.wi", bias=False), config["dense_act_fn"])
    return graph.add(x, stored.linear(inner, f"{dense}.wo", bias=False, outliers=True))


def _mutual_bias(stored: Stored[TextEncoder], config: Mapping[str, Any], context: int) -> Value:
    """What a token adds to the score of another, before or after it: float32 [1, heads, sequence, sequence]."""
    graph, places = stored.frame.graph, stored.frame.positions()
    distance = graph.one("Sub", [places, graph.one("Transpose", [places])])
    row = graph.add(distance, graph.weight("middle", np.array(context - 1)))
    rows = graph.one("Unsqueeze", [row, graph.weight("first", np.array([0]))])
    return _biased(stored, config, np.arange(1 - context, context), "encoder", rows)


def _causal_bias(stored: Stored[TextDecoder], config: Mapping[str, Any], context: int) -> Value:
    """What a token adds to the scores of those before it: float32 [batch, heads, sequence, total]."""
    return _biased(stored, config, -np.arange(context), "decoder", stored.frame.distances())


def _biased(
    stored: Stored[Any], config: Mapping[str, Any], distances: NDArray[np.int64], part: str, rows: Value
) -> Value:
    frame: Frame = stored.frame
    table = frame.graph.weight(f"{part}.by_distance", _by_distance(stored.weights, config, distances, part))
    return frame.graph.one("Transpose", [frame.graph.one("Gather", [table, rows], {"axis": 0})], {"perm": [0, 3, 1, 2]})


def _by_distance(
    weights: Weights, config: Mapping[str, Any], distances: NDArray[np.int64], part: str
) -> NDArray[np.float32]:
    """The bias of each distance (position of the key less that of the query): float32 [distances, heads].

    The buckets are transformers' own: at their edges a distance must fall on the same side.
    """
    import torch
    from transformers.models.t5.modeling_t5 import T5Attention

    buckets = T5Attention._relative_position_bucket(
        torch.from_numpy(distances), part == "encoder", int(config["relative_attention_num_buckets"]),
        int(config["relative_attention_max_distance"]),
    )  # fmt: skip
    return np.ascontiguousarray(weights(f"{part}.{_BIAS}")[buckets.numpy()])
