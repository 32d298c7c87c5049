"""The frame of a sequence-to-sequence model: the graph that reads a text once, and the one that writes after it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgelm_export.decoder import Decoder, Heads
from edgelm_export.graph import MICROSOFT, GraphBuilder, Shelf, Value
from edgelm_export.quantize import Scheme

MASK = "encoder_attention_mask"
ENCODER = ".encoder"  # the name of a graph that reads ends so


class TextEncoder:
    """A graph under construction: a text in, keys and values for every layer of the decoder out.

    Input ``input_ids`` int64 [batch, sequence], unpadded; outputs ``encoder.N.key|value`` float32 [batch, heads,
    sequence, head size], so that a decoder computes nothing of the text again.
    """

    def __init__(self, name: str, heads: Heads, scheme: Scheme) -> None:
        self.graph = GraphBuilder(name + ENCODER, shelf=Shelf(apart_from=0))
        self.heads = heads
        self.scheme = scheme
        self.ids = self.graph.input("input_ids", ir.DataType.INT64, ["batch", "sequence"])

    def positions(self) -> Value:
        """0, 1, 2, ... for the tokens of a row: int64 [1, sequence]."""
        graph = self.graph
        return graph.one("Unsqueeze", [_counted(graph, _length(graph, self.ids)), _axis(graph, 0)])

    def attention(self, qkv: Value, *, scale: float, bias: Value | None = None) -> Value:
        """Every token attends to all: ``qkv`` is one packed projection [batch, sequence, width].

        ``bias`` [1, heads, sequence, sequence] is added to the scores.
        """
        parts = self.graph.split(qkv, self.heads.split)
        attributes = {"num_heads": self.heads.query, "scale": scale}
        return self.graph.one("MultiHeadAttention", [*parts, None, None, bias], attributes, MICROSOFT)

    def give(self, layer: int, key_value: Value, heads: Heads) -> None:
        """Declare what layer ``layer`` of the decoder attends to: a packed projection of the keys and the values."""
        graph = self.graph
        for part, value in zip(("key", "value"), graph.split(key_value, heads.split[1:]), strict=True):
            by_head = graph.one("Transpose", [graph.by_head(value, heads.size)], {"perm": [0, 2, 1, 3]})
            shape: list[int | str] = ["batch", heads.key_value, "sequence", heads.size]
            graph.output(by_head, f"encoder.{layer}.{part}", ir.DataType.FLOAT, shape)


class TextDecoder(Decoder):
    """A `Decoder` that attends to a text as well.

    Further inputs ``encoder.N.key|value`` float32 [texts, heads, source, head size] and ``encoder_attention_mask``
    int32 [texts, source]. Either each sequence of the batch has a text of its own, or all have the same one: the beams
    of one answer then read its keys once.
    """

    def __init__(self, name: str, heads: Heads, encoder: TextEncoder) -> None:
        super().__init__(name, heads, encoder.scheme, shelf=encoder.graph.shelf)
        graph = self.graph
        self._mask = graph.input(MASK, ir.DataType.INT32, ["texts", "source"])
        self._places: Value | None = None
        width = graph.weight("width", np.array([heads.query * heads.size]))
        texts = graph.one("Shape", [self._mask], {"start": 0, "end": 1})
        self._by_text = graph.one("Concat", [texts, graph.weight("rest", np.array([-1])), width], {"axis": 0})
        self._by_sequence = graph.one("Concat", [graph.one("Shape", [self.ids]), width], {"axis": 0})

    def positions(self) -> Value:
        """The position of every token; an input that is declared once."""
        self._places = self._places or super().positions()
        return self._places

    def text_attention(self, layer: int, query: Value, *, scale: float) -> Value:
        """Attention to the text: ``query`` [batch, sequence, width]."""
        graph, heads = self.graph, self.heads
        shape: list[int | str] = ["texts", heads.query, "source", heads.size]
        source = [graph.input(f"encoder.{layer}.{part}", ir.DataType.FLOAT, shape) for part in ("key", "value")]
        rows = graph.one("Reshape", [query, self._by_text])
        attributes = {"num_heads": heads.query, "scale": scale}
        context = graph.one("MultiHeadAttention", [rows, *source, None, self._mask], attributes, MICROSOFT)
        return graph.one("Reshape", [context, self._by_sequence])

    def distances(self) -> Value:
        """How far each token stands behind every token so far, 0 for those after it: int64 [batch, sequence, total]."""
        graph = self.graph
        own = graph.one("Unsqueeze", [self.positions(), _axis(graph, 2)])
        behind = graph.one(
            "Sub", [own, _counted(graph, graph.one("Cast", [self.total], {"to": int(ir.DataType.INT64)}))]
        )
        return graph.one("Max", [behind, graph.weight("nothing", np.array(0))])


def _length(graph: GraphBuilder, ids: Value) -> Value:
    """The number of tokens in a row, a scalar."""
    return graph.one("Squeeze", [graph.one("Shape", [ids], {"start": 1, "end": 2}), _axis(graph, 0)])


def _counted(graph: GraphBuilder, count: Value) -> Value:
    """0, 1, 2, ... up to ``count``: int64 [count]."""
    return graph.one("Range", [graph.weight("nothing", np.array(0)), count, graph.weight("each", np.array(1))])


def _axis(graph: GraphBuilder, index: int) -> Value:
    return graph.weight(f"axis_{index}", np.array([index]))
