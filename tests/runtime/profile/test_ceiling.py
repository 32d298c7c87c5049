"""How much a run has to do, beside what can be counted by hand, and what this machine could do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelm_runtime.device import Device
from edgelm_runtime.errors import BundleRejected
from edgelm_runtime.profile import ceiling, rates
from edgelm_runtime.profile.subject import Deadline, NotMeasured
from edgelm_runtime.profile.tracing import Event
from edgelm_runtime.profile.work import multiply_adds, weight_bytes


def test_the_ceiling_of_a_generator_is_that_of_one_token(generator: Any) -> None:
    found = ceiling.measure(generator(), Deadline(0.2))
    file = generator().bundle.path / "model.onnx"
    assert 0.3 * file.stat().st_size < found.bytes < file.stat().st_size
    assert 0.5 * found.bytes / 4 < found.operations < 4 * found.bytes
    assert found.floor == pytest.approx(
        1000 * max(found.bytes / found.read_bandwidth, found.operations / found.int8_rate)
    )
    assert found.share == pytest.approx(found.floor / found.run)
    assert 0 < found.share < 1
    assert found.bound in ("memory", "arithmetic")
    assert all(point.bytes and point.operations and point.ms > 0 for point in found.points)
    assert sum(point.operations for point in found.points) <= found.operations


def test_the_ceiling_of_a_classifier_without_products(classifier: Any) -> None:
    """It looks up one row of two float32 for each of [CLS] the parcel is good [SEP], and multiplies nothing."""
    found = ceiling.measure(classifier(), Deadline(0.1))
    assert (found.bytes, found.operations, found.bound, found.points) == (6 * 8, 0, "memory", ())


def test_a_prompt_longer_than_the_context_is_cut(generator: Any) -> None:
    assert ceiling.measure(generator(["the parcel is good and fast, " * 40]), Deadline(0.0)).run > 0


def test_no_rates_are_known_of_other_devices(classifier: Any) -> None:
    subject = classifier()
    engine = subject.model.engine
    engine.plan = replace(engine.plan, device=Device("openvino", "GPU"))
    with pytest.raises(NotMeasured, match="openvino:GPU"):
        ceiling.measure(subject, Deadline(0.0))


class TestWeightBytes:
    def model(self, *nodes: onnx.NodeProto, **tensors: np.ndarray[Any, Any]) -> bytes:
        initializers = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
        graph = helper.make_graph(nodes, "g", [], [], initializers)
        return bytes(helper.make_model(graph).SerializeToString())

    def test_each_counts_once_in_the_size_that_it_is_stored_in(self) -> None:
        first = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
        again = helper.make_node("MatMulInteger", ["y", "w"], ["z"])
        added = helper.make_node("Add", ["z", "b"], ["out"])
        model = self.model(first, again, added, w=np.ones((4, 4), np.int8), b=np.ones(4, np.float32))
        assert weight_bytes(model, 100) == {"MatMulInteger": 16, "Add": 16}

    def test_of_a_table_the_rows_that_are_looked_up_count(self) -> None:
        node = helper.make_node("Gather", ["table", "ids"], ["out"])
        assert weight_bytes(self.model(node, table=np.ones((100, 8), np.float16)), 5) == {"Gather": 5 * 16}
        assert weight_bytes(self.model(node, table=np.ones((3, 8), np.float16)), 5) == {"Gather": 3 * 16}

    def test_constant_positions_in_what_was_computed_are_no_table(self) -> None:
        node = helper.make_node("Gather", ["x", "channels"], ["out"])
        assert weight_bytes(self.model(node, channels=np.ones(8, np.int64)), 5) == {"Gather": 64}

    def test_a_table_that_is_the_head_too_is_read_whole(self) -> None:
        look = helper.make_node("Gather", ["table", "ids"], ["x"])
        head = helper.make_node("MatMulNBits", ["x", "table"], ["out"])
        assert weight_bytes(self.model(look, head, table=np.ones((100, 8), np.uint8)), 1) == {"MatMulNBits": 800}

    def test_four_bits_are_half_a_byte(self) -> None:
        tensor = TensorProto(name="w", data_type=TensorProto.INT4, dims=[10, 3])
        graph = helper.make_graph([helper.make_node("DequantizeLinear", ["w", "s"], ["y"])], "g", [], [], [tensor])
        assert weight_bytes(bytes(helper.make_model(graph).SerializeToString()), 1) == {"DequantizeLinear": 15}

    def test_no_graph(self) -> None:
        with pytest.raises(BundleRejected, match="no ONNX model"):
            weight_bytes(b"\x3a\x05abc", 1)


@pytest.mark.parametrize(
    ("op_type", "inputs", "outputs", "expected"),
    [
        ("MatMul", [(1, 7, 32), (32, 64)], [(1, 7, 64)], 7 * 32 * 64),
        ("MatMulIntegerToFloat", [(1, 7, 32), ()], [(1, 7, 64)], 7 * 32 * 64),
        ("MatMulNBits", [(1, 1, 256), (8000, 2, 128)], [(1, 1, 8000)], 256 * 8000),
        ("Gemm", [(7, 32)], [(7, 64)], 7 * 32 * 64),
        ("QAttention", [(1, 7, 32)], [(1, 7, 32)], 7 * 32 * 96 + 2 * 7 * 7 * 32),
        ("MultiHeadAttention", [(1, 7, 32), (1, 9, 32), (1, 9, 32)], [(1, 7, 32)], 2 * 7 * 9 * 32),
        ("MultiHeadAttention", [(1, 7, 32), (1, 4, 9, 8), (1, 4, 9, 8)], [(1, 7, 32)], 2 * 7 * 9 * 32),
        ("MultiHeadAttention", [(1, 7, 4, 3, 8)], [(1, 7, 32)], 2 * 7 * 7 * 32),
        ("GroupQueryAttention", [(1, 1, 96)], [(1, 1, 32), (1, 4, 100, 8)], 2 * 20 * 32),
        ("GroupQueryAttention", [(1, 1, 96)], [(1, 1, 32), (1, 4, 10, 8)], 2 * 10 * 32),
        ("LayerNormalization", [(1, 7, 32)], [(1, 7, 32)], 0),
        ("MatMul", [], [], 0),
    ],
)
def test_multiply_adds(op_type: str, inputs: list[Any], outputs: list[Any], expected: int) -> None:
    event = Event("node", op_type, "CPUExecutionProvider", tuple(inputs), tuple(outputs), 0.0, 1.0)
    assert multiply_adds(event, 20) == expected


def test_rates_are_those_of_a_computer() -> None:
    assert 1e8 < rates.read_bandwidth(2, 0) < 1e13
    assert 1e8 < rates.int8_rate(1, 0.02) < 1e14
