"""The frame of every generator graph: its inputs, attention over the cache, and logits of the last positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgelm_export.families import Weights, refuse
from edgelm_export.graph import MICROSOFT, GraphBuilder, Model, Shelf, Value
from edgelm_export.quantize import Scheme
from edgelm_export.rotary import Rotary

FIRST_SCALE = 12  # GroupQueryAttention's input k_scale; v_scale is the next
BIAS = 10  # its input attention_bias


@dataclass(frozen=True)
class Heads:
    """The shape of a layer's attention: heads that ask, heads that answer, and numbers in each."""

    query: int
    key_value: int
    size: int

    @property
    def split(self) -> list[int]:
        """Widths of the query, the key and the value in a packed projection."""
        return [self.query * self.size, self.key_value * self.size, self.key_value * self.size]


def check_heads(heads: Heads, field: str, value: object) -> None:
    """Raise UnsupportedCheckpoint where GroupQueryAttention's kernel, which reads eight numbers at once, would fail."""
    if heads.query < 1 or heads.key_value < 1 or heads.query % heads.key_value or heads.size < 8 or heads.size % 8:
        raise refuse(
            field, value, f"heads of a multiple of 8 numbers each ({heads.size} here), shared evenly by the keys"
        )


class Decoder:
    """A graph under construction, with past and present of every layer in one buffer.

    Inputs ``input_ids`` int64 [batch, sequence], ``seqlens_k`` int32 [batch] (tokens so far, less one),
    ``total_sequence_length`` int32 scalar (the largest of them, not less one), ``logits_to_keep`` int64 [1],
    ``past_key_values.N.key|value`` float32 or int8 [batch, kv heads, capacity, head size], and ``position_ids`` int64
    [batch, sequence] where positions are learned; outputs ``logits`` float32 [batch, logits_to_keep, vocab] and
    ``present.N.key|value``, to be bound to the past's memory.
    """

    def __init__(
        self, name: str, heads: Heads, scheme: Scheme, rotary: Rotary | None = None, *, shelf: Shelf | None = None
    ) -> None:
        self.graph = GraphBuilder(name, shelf=shelf)
        self.heads = heads
        self.scheme = scheme
        self._scales = scheme.cache
        self._cache_type = ir.DataType.FLOAT if scheme.cache is None else ir.DataType.INT8
        self._cache_shape: list[int | str] = ["batch", heads.key_value, "capacity", heads.size]
        self._lengths = self.graph.input("seqlens_k", ir.DataType.INT32, ["batch"])
        self.total = self.graph.input("total_sequence_length", ir.DataType.INT32, [])
        self.ids = self.graph.input("input_ids", ir.DataType.INT64, ["batch", "sequence"])
        self._keep = self.graph.input("logits_to_keep", ir.DataType.INT64, [1])
        self._rotary: list[Value | None] = []
        if rotary is not None:
            self._rotary = [self.graph.weight("rotary.cos", rotary.cos), self.graph.weight("rotary.sin", rotary.sin)]

    def positions(self) -> Value:
        """The position of every token, for a table of learned positions."""
        return self.graph.input("position_ids", ir.DataType.INT64, ["batch", "sequence"])

    def attention(
        self, layer: int, qkv: Sequence[Value], *, scale: float, window: int = 0, bias: Value | None = None
    ) -> Value:
        """Causal attention over the cache of ``layer``, which the new keys and values join.

        ``qkv`` is one packed projection, or query, key and value, each [batch, sequence, width]. A ``window`` above 0
        is how many tokens, the own one among them, a token sees. ``bias`` [batch, heads, sequence, total] is added to
        the scores.
        """
        graph, shape, kind = self.graph, self._cache_shape, self._cache_type
        past = [graph.input(f"past_key_values.{layer}.{part}", kind, shape) for part in ("key", "value")]
        attributes: dict[str, Any] = {
            "num_heads": self.heads.query, "kv_num_heads": self.heads.key_value, "scale": scale,
            "do_rotary": int(bool(self._rotary)),
        }  # fmt: skip
        if window:
            attributes["local_window_size"] = window
        packed = [*qkv, None, None] if len(qkv) == 1 else [*qkv]
        inputs = [*packed, *past, self._lengths, self.total, *self._rotary]
        if bias is not None:
            inputs += [*[None] * (BIAS - len(inputs)), bias]
        if self._scales is not None:
            scales = [
                graph.weight(f"cache.{layer}.{part}", self._scales[f"{layer}.{part}"]) for part in ("key", "value")
            ]
            inputs += [*[None] * (FIRST_SCALE - len(inputs)), *scales]
            attributes |= {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
        context, key, value = graph.op("GroupQueryAttention", inputs, attributes, domain=MICROSOFT, outputs=3)
        graph.output(key, f"present.{layer}.key", kind, shape)
        graph.output(value, f"present.{layer}.value", kind, shape)
        return context

    def last(self, x: Value) -> Value:
        """The last ``logits_to_keep`` rows of every sequence: what comes after the cache needs no others."""
        graph = self.graph
        start = graph.one("Neg", [self._keep])
        end = graph.weight("last.end", np.array([np.iinfo(np.int64).max]))
        return graph.one("Slice", [x, start, end, graph.weight("last.axis", np.array([1]))])

    def finish(self, logits: Value, vocab: int, encoder: GraphBuilder | None = None) -> Model:
        """Name the output and serialize, with the graph of the encoder that is read from."""
        self.graph.output(logits, "logits", ir.DataType.FLOAT, ["batch", "kept", vocab])
        return self.graph.serialize(encoder)


class Frame(Protocol):
    """A graph under construction that reads tokens."""

    graph: GraphBuilder
    scheme: Scheme
    ids: Value

    def positions(self) -> Value:
        """The position of every token."""


AnyFrame = TypeVar("AnyFrame", bound=Frame)


@dataclass(frozen=True)
class Stored(Generic[AnyFrame]):
    """The weights of a checkpoint, as the scheme of a frame places them in its graph."""

    frame: AnyFrame
    weights: Weights

    @property
    def scheme(self) -> Scheme:
        """The frame's."""
        return self.frame.scheme

    def linear(self, x: Value, *names: str, bias: bool, outliers: bool = False) -> Value:
        """The product of ``x`` with the torch Linears ``names`` ([out, in] each) side by side, stored as the first."""
        weight = np.concatenate([self.weights(f"{name}.weight") for name in names]).T
        biases = np.concatenate([self.weights(f"{name}.bias") for name in names]) if bias else None
        return self.scheme.linear(self.frame.graph, x, weight, biases, names[0], outliers=outliers)

    def layer_norm(self, x: Value, name: str, epsilon: float) -> Value:
        """LayerNormalization with the scale and bias of ``name``."""
        return self.frame.graph.layer_norm(
            x, self.weights(f"{name}.weight"), self.weights(f"{name}.bias"), epsilon, name
        )

    def rms_norm(self, x: Value, name: str, epsilon: float) -> Value:
        """Root mean square normalization with the scale of ``name``."""
        return self.frame.graph.rms_norm(x, self.weights(f"{name}.weight"), epsilon, name)

    def embedded(self, table: str) -> Value:
        """The rows of the tokens in the table ``table``."""
        return self.scheme.embedding(self.frame.graph, self.frame.ids, self.weights(f"{table}.weight"), table)

    def placed(self, x: Value, table: str, context: int, *, offset: int = 0) -> Value:
        """``x`` plus learned positions, whose table has that of the first token in row ``offset``."""
        rows = self.weights(f"{table}.weight")[offset : offset + context]
        return self.frame.graph.add(x, self.scheme.embedding(self.frame.graph, self.frame.positions(), rows, table))

    def logits(self, x: Value, table: str, config: Mapping[str, Any]) -> tuple[Value, int]:
        """Logits of ``x``, and how many; ``table``, the token embedding, is the head if tied."""
        name = table if is_tied(self.weights, config, table) else "lm_head"
        rows: NDArray[Any] = self.weights(f"{name}.weight")
        return self.scheme.tied_head(self.frame.graph, x, rows, name), rows.shape[0]


def head(stored: Stored[Decoder], x: Value, table: str, config: Mapping[str, Any]) -> Model:
    """Logits of the last rows, and with them the model."""
    return stored.frame.finish(*stored.logits(x, table, config))


def is_tied(weights: Weights, config: Mapping[str, Any], table: str) -> bool:
    """As transformers decides: a head of its own that differs from the table is not tied, whatever the field says."""
    if not config.get("tie_word_embeddings", True):
        return False
    return "lm_head.weight" not in weights or np.array_equal(weights("lm_head.weight"), weights(f"{table}.weight"))
