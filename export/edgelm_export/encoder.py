"""The frame of every encoder graph: its inputs, layers that are normed after each part, and the heads of its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgelm_export.families import POOLINGS, Wanted, Weights, refuse
from edgelm_export.graph import ACTIVATIONS, GraphBuilder, Model, Value
from edgelm_export.pooling import layered, pooled, single_row
from edgelm_export.quantize import Scheme
from edgelm_runtime.errors import UnsupportedCheckpoint

TASKS = ("text-classification", "token-classification", "feature-extraction")
_AFTER_PADDING = ("camembert", "mpnet", "roberta", "xlm-roberta")


@dataclass(frozen=True)
class LayerNames:
    """What torch calls the modules of a layer; BERT's names where a family has none of its own."""

    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    attended: str = "attention.output.dense"
    attended_norm: str = "attention.output.LayerNorm"
    inner: str = "intermediate.dense"
    outer: str = "output.dense"
    outer_norm: str = "output.LayerNorm"


@dataclass(frozen=True)
class Head:
    """A classifier of texts: a layer on the vector of the first token, an activation, and the layer of the labels."""

    dense: str
    activation: str
    logits: str


@dataclass(frozen=True)
class Architecture:
    """What tells the families apart.

    ``prefix`` is torch's name of the base model in one with a head; ``segments`` says whether it has a table of them.
    """

    prefix: str
    head: Head
    segments: bool = True
    layers: str = "encoder.layer"
    layer: LayerNames = LayerNames()


@dataclass(frozen=True)
class Shape:
    """What the configuration says of the layers; ``projected`` are embeddings narrower than these."""

    layers: int
    heads: int
    activation: str
    epsilon: float
    segments: int = 1
    padding_row: int | None = None
    projected: bool = False


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape, from the fields that BERT and most of its relatives have."""
    hidden = int(config["hidden_size"])
    return Shape(
        int(config["num_hidden_layers"]), int(config["num_attention_heads"]), config.get("hidden_act", "gelu"),
        float(config.get("layer_norm_eps", 1e-12)), int(config.get("type_vocab_size", 1)), padding_row(config),
        int(config.get("embedding_size", hidden)) != hidden,
    )  # fmt: skip


def padding_row(config: Mapping[str, Any]) -> int | None:
    """The row of padding in the position table, where tokens are counted from the row after it; None from row 0."""
    if config["model_type"] not in _AFTER_PADDING:
        return None
    return 1 if config["model_type"] == "mpnet" else int(config["pad_token_id"])  # MPNet's is 1 whatever the field says


def check_encoder(
    config: Mapping[str, Any], *, width: str = "hidden_size", heads: str = "num_attention_heads",
    activation: str = "hidden_act",
) -> None:  # fmt: skip
    """Raise UnsupportedCheckpoint for a field that the graph would not honour; the names are those of the family."""
    if config.get(activation, "gelu") not in ACTIVATIONS:
        raise refuse(activation, config[activation], ", ".join(ACTIVATIONS))
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise refuse("position_embedding_type", config["position_embedding_type"], "absolute")
    for field in ("is_decoder", "add_cross_attention"):
        if config.get(field):
            raise refuse(field, config[field], "false")
    if config[heads] < 1 or config[width] % config[heads]:
        raise refuse(heads, config[heads], f"a divisor of {width} = {config[width]}")
    if config["model_type"] in _AFTER_PADDING and config.get("pad_token_id") is None:
        raise refuse("pad_token_id", None, "the row of the position table after which tokens are counted")


def build_encoder(
    architecture: Architecture, shape: Shape, weights: Weights, scheme: Scheme, wanted: Wanted,
    by_distance: NDArray[np.float32] | None = None,
) -> Model:  # fmt: skip
    """The serialized graph, for what is ``wanted``.

    Inputs, all rows unpadded: ``input_ids`` int64 [batch, sequence], and ``token_type_ids`` of the same kind where
    segments are wanted and there are several. Outputs, float32: ``logits`` [batch, labels] of texts, ``logits``
    [batch, sequence, labels] of tokens, or ``embedding`` [batch, width].

    ``by_distance``, float32 [2 * context - 1, heads], is added to the attention of a token to another; the middle is
    that of a token to itself.

    Raises:
        UnsupportedCheckpoint: a tensor is missing, or the pooling is of another kind.
    """
    encoder = _Encoder(GraphBuilder(architecture.prefix, half=scheme.precision == "fp16"), architecture, shape, weights,
                       scheme, wanted)  # fmt: skip
    if encoder.headless and not (wanted.poolings and set(wanted.poolings) <= set(POOLINGS)):
        raise UnsupportedCheckpoint(
            f"the poolings are {wanted.poolings}; accepted: one or more of {', '.join(POOLINGS)}"
        )
    ids = encoder.graph.input("input_ids", ir.DataType.INT64, ["batch", "sequence"])
    x = encoder.embedded(ids)
    bias = None if by_distance is None else encoder.position_bias(ids, by_distance)
    for layer in range(shape.layers):
        x = encoder.layer(x, layer, bias)
    encoder.answer(x)
    return encoder.graph.serialize()


@dataclass(frozen=True)
class _Encoder:
    """A graph under construction."""

    graph: GraphBuilder
    architecture: Architecture
    shape: Shape
    weights: Weights
    scheme: Scheme
    wanted: Wanted

    def embedded(self, ids: Value) -> Value:
        """Words, positions and segments, added and normed: [batch, sequence, hidden]."""
        graph = self.graph
        names = [self._module(f"embeddings.{part}_embeddings") for part in ("word", "position", "token_type")]
        words, places, types = names[0], self._tensor(f"{names[1]}.weight"), names[2]
        told = self.architecture.segments and self.wanted.segments and self.shape.segments > 1
        if self.architecture.segments and not told:
            # Every token is of the first segment: its embedding is added to the positions once, here.
            places = places + self._tensor(f"{types}.weight")[0]
        x = self.scheme.embedding(graph, ids, self._tensor(f"{words}.weight"), words)
        x = graph.add(x, self._placed(ids, places, names[1]))
        if told:
            given = graph.input("token_type_ids", ir.DataType.INT64, ["batch", "sequence"])
            table = graph.weight(types, self._tensor(f"{types}.weight"))
            x = graph.add(x, graph.one("Gather", [table, given], {"axis": 0}))
        x = self._norm(x, self._module("embeddings.LayerNorm"))
        return self._linear(x, self._module("embeddings_project")) if self.shape.projected else x

    def position_bias(self, ids: Value, by_distance: NDArray[np.float32]) -> Value:
        """What is added to the scores of attention: [1, heads, sequence, sequence]."""
        graph, places = self.graph, self._places(ids)
        middle = graph.weight("distance_0", np.array(by_distance.shape[0] // 2, np.int64))
        distance = graph.add(graph.one("Sub", [places, graph.one("Transpose", [places])]), middle)
        # All heads of a distance at once, then transposed: to gather number by number takes six times as long.
        bias = graph.one("Gather", [graph.weight("by_distance", by_distance), distance], {"axis": 0})
        bias = graph.one("Transpose", [bias], {"perm": [2, 0, 1]})
        return graph.one("Unsqueeze", [bias, graph.weight("first_axis", np.array([0], np.int64))])

    def layer(self, x: Value, index: int, bias: Value | None) -> Value:
        """Attention and feed-forward; after the last attention only of the row that the answer is made from."""
        graph, names = self.graph, self.architecture.layer
        prefix = self._module(f"{self.architecture.layers}.{index}")
        packed = [f"{prefix}.{part}" for part in (names.query, names.key, names.value)]
        weight = np.concatenate([self._tensor(f"{name}.weight").T for name in packed], axis=1)
        biases = np.concatenate([self._tensor(f"{name}.bias") for name in packed])
        context = self.scheme.self_attention(graph, x, weight, biases, self.shape.heads, packed[0], position_bias=bias)
        if index == self.shape.layers - 1 and self._row is not None:
            context, x = graph.row(context, self._row), graph.row(x, self._row)
        x = graph.add(x, self._linear(context, f"{prefix}.{names.attended}"))
        x = self._norm(x, f"{prefix}.{names.attended_norm}")
        inner = graph.activation(self._linear(x, f"{prefix}.{names.inner}"), self.shape.activation)
        x = graph.add(x, self._linear(inner, f"{prefix}.{names.outer}", outliers=True))
        return self._norm(x, f"{prefix}.{names.outer_norm}")

    def answer(self, x: Value) -> None:
        """Declare the output that is wanted, from the last layer's rows, or the one row that is left of them."""
        graph = self.graph
        if self.headless:
            last = self._module(f"{self.architecture.layers}.{self.shape.layers - 1}")
            hidden = self._tensor(f"{last}.{self.architecture.layer.outer_norm}.bias").shape[0]
            x = x if self._row is not None else pooled(graph, x, self.wanted)
            x = layered(graph, x, self.wanted, partial(self.scheme.linear, graph))
            graph.output(x, self.wanted.output, ir.DataType.FLOAT, ["batch", self.wanted.vector_width(hidden)])
            return
        head, shape = self.architecture.head, ["batch", "sequence"]
        name = "classifier"
        if self.wanted.task == "text-classification":
            x = graph.activation(self._linear(x, head.dense), head.activation)
            name, shape = head.logits, ["batch"]
        logits, labels = self._linear(x, name), self._tensor(f"{name}.bias").shape[0]
        graph.output(logits, "logits", ir.DataType.FLOAT, [*shape, labels])

    @property
    def _row(self) -> int | None:
        """The only row of the last layer that the answer is made from; None where it is made from all."""
        return 0 if self.wanted.task == "text-classification" else single_row(self.wanted)

    def _placed(self, ids: Value, table: NDArray[Any], name: str) -> Value:
        """Rows of the position table; those after the context are not stored."""
        padding = self.shape.padding_row
        rows = table[: self.wanted.context + (0 if padding is None else padding + 1)]
        positions = self._places(ids) if padding is None else self._counted(ids, padding)
        return self.scheme.embedding(self.graph, positions, rows, name)

    def _places(self, ids: Value) -> Value:
        """0, 1, 2, ... for the tokens of a row: int64 [1, sequence]."""
        graph = self.graph
        length = graph.one("Shape", [ids], {"start": 1, "end": 2})
        every = graph.weight("position_ids", np.arange(self.wanted.context, dtype=np.int64)[None])
        zero, one = (graph.weight(name, np.array([number], np.int64)) for number, name in enumerate(("zero", "one")))
        return graph.one("Slice", [every, zero, length, one])

    def _counted(self, ids: Value, padding: int) -> Value:
        """Positions from the row after padding's; padding that stands in a text is not counted: [batch, sequence]."""
        graph = self.graph
        row = graph.weight("padding", np.array(padding, np.int64))
        told = graph.one("Cast", [graph.one("Not", [graph.one("Equal", [ids, row])])], {"to": int(ir.DataType.INT64)})
        count = graph.one("CumSum", [told, graph.weight("along_a_row", np.array(1, np.int64))])
        return graph.add(graph.multiply(count, told), row)

    def _linear(self, x: Value, name: str, *, outliers: bool = False) -> Value:
        weight, bias = self._tensor(f"{name}.weight").T, self._tensor(f"{name}.bias")
        return self.scheme.linear(self.graph, x, weight, bias, name, outliers=outliers)

    def _norm(self, x: Value, name: str) -> Value:
        scale, bias = self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias")
        return self.graph.layer_norm(x, scale, bias, self.shape.epsilon, name)

    @property
    def headless(self) -> bool:
        """Whether the torch model that does the task is the base model itself."""
        return self.wanted.task == "feature-extraction"

    def _module(self, part: str) -> str:
        """The name of a part of the base model in the torch model that does the task."""
        return part if self.headless else f"{self.architecture.prefix}.{part}"

    def _tensor(self, name: str) -> NDArray[Any]:
        """A tensor by its name in that torch model; a checkpoint with a head holds the base model under its prefix."""
        prefixed = f"{self.architecture.prefix}.{name}"
        return self.weights(prefixed if self.headless and prefixed in self.weights else name)
