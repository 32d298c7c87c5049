"""Outliers folded into weights and norms: the function stays, and int8 stands what plain int8 does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgelm_export.graph import GraphBuilder
from edgelm_export.problems import distance
from edgelm_export.quantize import int8_mixed, int8_static
from edgelm_export.quantize.folding import GAIN, best_levels
from edgelm_export.quantize.ranges import ROWS, Range
from edgelm_runtime.session import SessionOptions, create_session, run
from perf.outliers import spread
from tests.export.tiny import Graph, bert, build, gpt2, rows, torch_logits

LEVEL = np.array([2.0, 0.5, 4.0, 1.0], np.float32)
X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def normed(readers: int, *, rms: bool = False, level: NDArray[Any] = LEVEL) -> tuple[list[str], NDArray[Any]]:
    """Operators and answer of a graph in which a norm is read ``readers`` times, once of them multiplied."""
    graph = GraphBuilder("norm")
    x = graph.input("x", ir.DataType.FLOAT, ["rows", 4])
    scale, bias = np.arange(1, 5, dtype=np.float32), np.ones(4, np.float32)
    y = graph.rms_norm(x, scale, 1e-5, "n") if rms else graph.layer_norm(x, scale, bias, 1e-5, "n")
    made = graph.one("Relu", [graph.multiply(y, graph.weight("level", level))])
    for _ in range(readers - 1):
        made = graph.add(made, y)
    graph.output(made, "y", ir.DataType.FLOAT, ["rows", 4])
    data = graph.serialize().graph
    proto = onnx.load_from_string(data).graph
    stored = {tensor.name for tensor in proto.initializer}
    assert stored == {name for node in proto.node for name in node.input} & stored
    (found,) = run(create_session(data, SessionOptions(1)), {"x": X}, ["y"])
    return [node.op_type for node in proto.node], found


@pytest.mark.parametrize("rms", [False, True])
def test_what_multiplies_a_norm_goes_into_it_where_nothing_else_reads_it(rms: bool) -> None:
    norm = "SimplifiedLayerNormalization" if rms else "LayerNormalization"
    kinds, found = normed(1, rms=rms)
    assert kinds == [norm, "Relu"]
    kinds, both = normed(2, rms=rms)
    assert kinds == [norm, "Mul", "Relu", "Add"]
    _, plain = normed(2, rms=rms, level=np.zeros(4, np.float32))
    np.testing.assert_allclose(found + plain, both, rtol=1e-5, atol=1e-6)


@given(arrays(np.float32, (200, 6), elements=st.floats(-8, 8, width=32)), st.integers(1, 199))
@settings(max_examples=30)
def test_the_same_rows_are_kept_in_whatever_order_they_come(values: NDArray[np.float32], cut: int) -> None:
    values += np.arange(200, dtype=np.float32)[:, None]
    whole = Range.of(values)
    parts = Range.of(values[:cut]), Range.of(values[cut:])
    for joined in (parts[0].joined(parts[1]), parts[1].joined(parts[0])):
        assert len(joined.rows) == ROWS
        assert sorted(map(tuple, joined.rows)) == sorted(map(tuple, whole.rows))
        np.testing.assert_array_equal(joined.largest, whole.largest)


@pytest.mark.parametrize("error", [int8_mixed.rounding_error, int8_static.rounding_error])
def test_levels_are_found_where_they_gain(error: Any) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, 64)).astype(np.float32)
    weight = random.normal(size=(64, 32)).astype(np.float32)
    assert best_levels(Range.of(x), weight, error) is None
    x[:, 3::4] *= 100  # more than are taken apart
    weight[3::4] /= 100
    level = best_levels(Range.of(x), weight, error)
    assert level is not None
    assert level[3::4].min() > 10 * np.delete(level, range(3, 64, 4)).max()
    known = Range.of(x)
    assert error(known.divided(level), weight * level[:, None]) < GAIN * 0.01 * error(known, weight)
    zeros = np.zeros_like(x)
    assert best_levels(Range.of(zeros), weight, error) is None
    assert best_levels(Range.of(x), np.zeros_like(weight), error) is None


def worst(model: Any, used: str) -> float:
    graph = Graph(build(model, used), generator=hasattr(model, "transformer"))
    return max(distance(graph.logits(ids), torch_logits(model, ids)) for ids in rows(600, (12, 20, 33)))


def test_a_generator_with_outliers_answers_as_without() -> None:
    model = spread(gpt2(spread=0.1))
    assert worst(model, "int8") > 4 * worst(model, "int8-static")
    assert worst(model, "int8-static") < 0.05
    kinds = [node.op_type for node in onnx.load_from_string(build(model, "int8-static")).graph.node]
    layers = kinds.count("GroupQueryAttention")
    assert kinds.count("Mul") <= 2 * layers  # those behind the norms are gone


@pytest.mark.parametrize("channels", [4, 16])
def test_a_classifier_with_outliers_answers_as_without(channels: int) -> None:
    def logits_apart(model: Any, used: str) -> float:
        graph = Graph(build(model, used), generator=False)
        return max(float(np.abs(graph.logits(ids) - torch_logits(model, ids)).max()) for ids in rows(600, (12, 20, 33)))

    model = spread(bert(), channels)
    folded, plain = logits_apart(model, "int8-folded"), logits_apart(bert(), "int8-folded")
    assert folded < 2 * plain + 0.02
    assert logits_apart(model, "int8") > 2 * folded
    assert logits_apart(model, "int8-whole") > 2 * folded  # one scale for all channels


def test_without_channels_apart_a_layer_is_one_product() -> None:
    model = spread(bert(), 4)
    kinds = {
        used: [node.op_type for node in onnx.load_from_string(build(model, used)).graph.node]
        for used in ("int8-mixed", "int8-whole")
    }
    assert "Gather" in kinds["int8-mixed"]
    assert kinds["int8-whole"].count("MatMul") < kinds["int8-mixed"].count("MatMul")
    assert len(kinds["int8-whole"]) < len(kinds["int8-mixed"])
