"""BERT for sequence classification (Devlin et al., 2019; `BertForSequenceClassification` of transformers)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from edgelm_export.families import Wanted, Weights, refuse
from edgelm_export.graph import ACTIVATIONS, GraphBuilder, Model, Value
from edgelm_export.quantize import Scheme

TASKS = ("text-classification",)


def check(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedCheckpoint for a field that the graph would not honour."""
    if config.get("hidden_act", "gelu") not in ACTIVATIONS:
        raise refuse("hidden_act", config["hidden_act"], ", ".join(ACTIVATIONS))
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise refuse("position_embedding_type", config["position_embedding_type"], "absolute")
    for field in ("is_decoder", "add_cross_attention"):
        if config.get(field):
            raise refuse(field, config[field], "false")
    problem = config.get("problem_type")
    if problem not in (None, "single_label_classification"):
        raise refuse("problem_type", problem, "single_label_classification")
    heads = config["num_attention_heads"]
    if heads < 1 or config["hidden_size"] % heads:
        raise refuse("num_attention_heads", heads, "a divisor of hidden_size")


def build(weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted) -> Model:
    """A classifier: ``input_ids`` int64 [batch, sequence], all rows unpadded, to ``logits`` float32 [batch, labels]."""
    graph = GraphBuilder("bert", half=scheme.precision == "fp16")
    input_ids = graph.input("input_ids", ir.DataType.INT64, ["batch", "sequence"])
    x = _embeddings(graph, input_ids, weights, config, scheme, wanted.context)
    layers = int(config["num_hidden_layers"])
    for layer in range(layers):
        x = _layer(graph, x, f"bert.encoder.layer.{layer}", weights, config, scheme, last=layer == layers - 1)
    pooled = graph.activation(_linear(graph, x, "bert.pooler.dense", weights, scheme), "tanh")
    logits = _linear(graph, pooled, "classifier", weights, scheme)
    labels = weights("classifier.bias").shape[0]
    graph.output(logits, "logits", ir.DataType.FLOAT, ["batch", labels])
    return graph.serialize()


def _embeddings(
    graph: GraphBuilder, input_ids: Value, weights: Weights, config: Mapping[str, Any], scheme: Scheme, context: int
) -> Value:
    prefix = "bert.embeddings"
    words = scheme.embedding(graph, input_ids, weights(f"{prefix}.word_embeddings.weight"), "word_embeddings")
    # One text has one segment: its type embedding is added to the positions once, here.
    places = weights(f"{prefix}.position_embeddings.weight")[:context]
    places = places + weights(f"{prefix}.token_type_embeddings.weight")[0]
    length = graph.one("Shape", [input_ids], {"start": 1, "end": 2})
    every = graph.weight("position_ids", np.arange(places.shape[0], dtype=np.int64)[None])
    zero, one = (graph.weight(name, np.array([number], np.int64)) for number, name in enumerate(("zero", "one")))
    positions = graph.one("Slice", [every, zero, length, one])
    rows = scheme.embedding(graph, positions, places, "position_embeddings")
    return _norm(graph, graph.add(words, rows), f"{prefix}.LayerNorm", weights, config)


def _layer(
    graph: GraphBuilder, x: Value, prefix: str, weights: Weights, config: Mapping[str, Any], scheme: Scheme,
    *, last: bool,
) -> Value:  # fmt: skip
    attention = f"{prefix}.attention"
    names = [f"{attention}.self.{part}" for part in ("query", "key", "value")]
    packed = np.concatenate([weights(f"{name}.weight").T for name in names], axis=1)
    bias = np.concatenate([weights(f"{name}.bias") for name in names])
    heads = int(config["num_attention_heads"])
    context = scheme.self_attention(graph, x, packed, bias, heads, names[0])
    if last:
        # The pooler reads the first token only: nothing after the last attention needs the other rows.
        context, x = graph.row(context, 0), graph.row(x, 0)
    x = graph.add(x, _linear(graph, context, f"{attention}.output.dense", weights, scheme))
    x = _norm(graph, x, f"{attention}.output.LayerNorm", weights, config)
    inner = _linear(graph, x, f"{prefix}.intermediate.dense", weights, scheme)
    inner = graph.activation(inner, config.get("hidden_act", "gelu"))
    x = graph.add(x, _linear(graph, inner, f"{prefix}.output.dense", weights, scheme, outliers=True))
    return _norm(graph, x, f"{prefix}.output.LayerNorm", weights, config)


def _linear(
    graph: GraphBuilder, x: Value, name: str, weights: Weights, scheme: Scheme, *, outliers: bool = False
) -> Value:
    return scheme.linear(graph, x, weights(f"{name}.weight").T, weights(f"{name}.bias"), name, outliers=outliers)


def _norm(graph: GraphBuilder, x: Value, name: str, weights: Weights, config: Mapping[str, Any]) -> Value:
    epsilon = float(config.get("layer_norm_eps", 1e-12))
    return graph.layer_norm(x, weights(f"{name}.weight"), weights(f"{name}.bias"), epsilon, name)
