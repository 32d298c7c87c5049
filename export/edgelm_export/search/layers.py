"""What a graph consists of, and what each layer costs in each scheme: bytes, and milliseconds on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgelm_export.graph import GraphBuilder, Shelf, Value
from edgelm_export.quantize import Scheme
from edgelm_export.quantize.fp32 import Float32
from edgelm_export.seq2seq import ENCODER
from edgelm_export.verify import ANSWER_TOKENS
from edgelm_runtime.machine import usable_cores
from edgelm_runtime.session import SessionOptions, create_session, run

REPEATS, SECONDS = 30, 0.05
LINEAR, ATTENTION, TABLE = "linear", "attention", "table"


@dataclass(frozen=True)
class Cost:
    """Of one layer in one scheme."""

    bytes: int
    ms: float


@dataclass(frozen=True)
class Layer:
    """A part of a graph that has a scheme of its own, with its cost by scheme.

    ``parts`` is the number of places that have its name: a table and the head that shares it are one layer.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    costs: Mapping[str, Cost]
    parts: int = 1


class Probe(Float32):
    """Builds a graph in float32, and measures on the way what each layer would cost in each of the schemes.

    Layers of the same operators and shapes take the same time: each of these is measured once. ``tokens`` is how many
    a run reads; an encoder beside a decoder reads the ``text`` tokens once for all that are written, and a token counts
    its share. ``candidates`` gives the schemes of a kind of layer.
    """

    def __init__(self, candidates: Callable[[str], Sequence[Scheme]], tokens: int, text: int) -> None:
        self._candidates = candidates
        self._tokens = tokens
        self._text = text
        self._times: dict[tuple[object, ...], float] = {}
        self.layers: dict[str, Layer] = {}

    def linear(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any] | None, name: str,
        *, outliers: bool = False,
    ) -> Value:  # fmt: skip
        """As float32, after the measurements."""
        width = weight.shape[0]

        def build(small: GraphBuilder, used: Scheme) -> Value:
            given = small.input("x", ir.DataType.FLOAT, [1, "tokens", width])
            return used.linear(small, given, weight, bias, name, outliers=outliers)

        self._measure(graph, name, (LINEAR, weight.shape), build)
        return super().linear(graph, x, weight, bias, name, outliers=outliers)

    def self_attention(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any], heads: int, name: str,
        *, position_bias: Value | None = None,
    ) -> Value:  # fmt: skip
        """As float32, after the measurements."""

        def build(small: GraphBuilder, used: Scheme) -> Value:
            given, scores = small.input("x", ir.DataType.FLOAT, [1, "tokens", weight.shape[0]]), None
            if position_bias is not None:
                scores = small.input("scores", ir.DataType.FLOAT, [1, heads, "tokens", "tokens"])
            return used.self_attention(small, given, weight, bias, heads, name, position_bias=scores)

        self._measure(graph, name, (ATTENTION, (*weight.shape, heads, int(position_bias is not None))), build)
        return super().self_attention(graph, x, weight, bias, heads, name, position_bias=position_bias)

    def embedding(self, graph: GraphBuilder, ids: Value, table: NDArray[Any], name: str) -> Value:
        """As float32, after the measurements."""

        def build(small: GraphBuilder, used: Scheme) -> Value:
            return used.embedding(small, small.input("ids", ir.DataType.INT64, [1, "tokens"]), table, name)

        self._measure(graph, name, (TABLE, table.shape), build)
        return super().embedding(graph, ids, table, name)

    def tied_head(self, graph: GraphBuilder, x: Value, table: NDArray[Any], name: str) -> Value:
        """As float32, after the measurements."""

        def build(small: GraphBuilder, used: Scheme) -> Value:
            return used.tied_head(small, small.input("x", ir.DataType.FLOAT, [1, 1, table.shape[1]]), table, name)

        self._measure(graph, name, (TABLE, (*table.shape, 1)), build)
        return super().tied_head(graph, x, table, name)

    def _measure(
        self, graph: GraphBuilder, name: str, of: tuple[str, tuple[int, ...]],
        build: Callable[[GraphBuilder, Scheme], Value],
    ) -> None:  # fmt: skip
        kind, shape = of
        once = graph.name.endswith(ENCODER)
        tokens, share = (self._text, 1 / ANSWER_TOKENS) if once else (self._tokens, 1.0)
        costs: dict[str, Cost] = {}
        for used in self._candidates(kind):
            small = GraphBuilder("layer", shelf=Shelf(2**62))
            small.output(build(small, used), "y", ir.DataType.FLOAT, ["batch", "rows", "width"])
            data = small.serialize().graph
            key = (kind, shape, used.name, small.kinds, tokens)
            if key not in self._times:
                self._times[key] = layer_ms(data, tokens, shape)
            costs[used.name] = Cost(len(data), share * self._times[key])
        known = self.layers.get(name)
        if known is not None:  # the same table again: its bytes count once
            costs = {used: Cost(cost.bytes, cost.ms + known.costs[used].ms) for used, cost in costs.items()}
        self.layers[name] = Layer(name, kind, shape, costs, 1 if known is None else known.parts + 1)


def layer_ms(data: bytes, tokens: int, shape: tuple[int, ...]) -> float:
    """Median milliseconds of a layer's graph on all cores, for ``tokens`` at once."""
    session = create_session(data, SessionOptions(usable_cores()))
    random = np.random.default_rng(0)
    feeds: dict[str, NDArray[Any]] = {}
    for given in session.inference.get_inputs():
        size = [tokens if isinstance(part, str) else part for part in given.shape]
        if given.type == "tensor(int64)":
            feeds[given.name] = random.integers(0, shape[0], size)
        else:
            feeds[given.name] = random.normal(size=size).astype(np.float32)
    spent: list[float] = []
    end = perf_counter() + SECONDS
    while len(spent) < 3 or (len(spent) <= REPEATS and perf_counter() < end):
        start = perf_counter()
        run(session, feeds, ["y"])
        spent.append(1000.0 * (perf_counter() - start))
    return median(spent[1:])
