"""Graphs on CPUs that clip products of uint8 with int8: the same numbers, with uint8 weights."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgelm_runtime.errors import BundleRejected
from edgelm_runtime.session import SessionOptions, create_session, run
from edgelm_runtime.unsigned import with_unsigned_weights

WIDTH = 32
RANDOM = np.random.default_rng(0)
# 7 bits: no kernel clips the products, so that the graph as it is answers rightly on every CPU, too.
WEIGHT = RANDOM.integers(-63, 64, (WIDTH, WIDTH), np.int8)
WIDE = RANDOM.integers(-63, 64, (WIDTH, 3 * WIDTH), np.int8)
ROWS = RANDOM.normal(size=(2, 5, WIDTH)).astype(np.float32)
STEP, ZERO, MIDDLE = np.float32(0.02), np.int8(0), np.uint8(120)
CONSTANTS = {
    "w": WEIGHT, "wide": WIDE, "bias": RANDOM.normal(size=3 * WIDTH).astype(np.float32),
    "s": STEP, "z": ZERO, "u": MIDDLE, "columns": np.ones(WIDTH, np.int8),
}  # fmt: skip
OURS = ("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QAttention")
Nodes = list[onnx.NodeProto]


def node(op_type: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    names = [name.strip("-") for name in inputs.split()]
    return helper.make_node(op_type, names, [output], domain="com.microsoft" if op_type in OURS else "", **attributes)


def graph(nodes: Nodes, constants: dict[str, Any] = CONSTANTS) -> onnx.ModelProto:
    used = {name for one in nodes for name in one.input}
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used]
    shape = ["batch", "rows", WIDTH]
    inside = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)], tensors,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(inside, opset_imports=opsets, ir_version=10)


def products(*inputs: str) -> Nodes:
    """A chain of MatMulIntegerToFloat with these inputs, each after a QuantizeLinear."""
    nodes, state = [], "x"
    for number, others in enumerate(inputs):
        nodes += [node("QuantizeLinear", f"{state} s u", f"q{number}")]
        state = "y" if number == len(inputs) - 1 else f"x{number}"
        nodes += [node("MatMulIntegerToFloat", f"q{number} {others}", state)]
    return nodes


CASES: dict[str, Nodes] = {
    "a weight of two products": products("w s s u", "w s s u", "w s s u"),
    "a zero point of two products": [
        node("DynamicQuantizeMatMul", "x w s z", "a"), node("DynamicQuantizeMatMul", "a w s z", "y")
    ],
    "with a zero point and without": products("w s s u", "w s s u z"),
    "a zero point a column": products("w s s u columns"),
    "a zero point that rounds, too": [
        node("QuantizeLinear", "x s z", "i"), node("DequantizeLinear", "i s z", "d"),
        node("DynamicQuantizeMatMul", "d w s z", "y"),
    ],
    "a weight that is read, too": [
        *products("w s s u")[:-1], node("MatMulIntegerToFloat", "q0 w s s u", "p"),
        node("DequantizeLinear", "w s", "r"), node("MatMul", "p r", "y"),
    ],
    "signed activations beside unsigned ones": [
        node("QuantizeLinear", "x s z", "i"), node("MatMulIntegerToFloat", "i w s s z", "a"),
        node("QuantizeLinear", "a s u", "q"), node("MatMulIntegerToFloat", "q w s s u", "y"),
    ],
    "MatMulInteger": [
        node("QuantizeLinear", "x s u", "q"), node("MatMulInteger", "q w u", "p"),
        node("Cast", "p", "y", to=TensorProto.FLOAT),
    ],
    "QLinearMatMul": [
        node("QuantizeLinear", "x s u", "q"), node("QLinearMatMul", "q s u w s z s u", "p"),
        node("QLinearMatMul", "p s u w s z s u", "o"), node("DequantizeLinear", "o s u", "y"),
    ],
    "QAttention": [
        node("QuantizeLinear", "x s u", "q"), node("QAttention", "q wide bias s s - u", "a", num_heads=2),
        node("QuantizeLinear", "a s u", "r"), node("QAttention", "r wide bias s s - u z", "y", num_heads=2),
    ],
    "nothing to change": [node("QuantizeLinear", "x s u", "q"), node("DequantizeLinear", "q s u", "y")],
}  # fmt: skip


def answer(model: bytes, weights: Any = None) -> NDArray[Any]:
    return run(create_session(model, SessionOptions(1), weights), {"x": ROWS}, ["y"])[0]


def kinds(model: bytes) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in onnx.load_from_string(model).graph.initializer}


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``both(model, weights)``: the answers of the graph as it is, and of the one that is used where products clip."""

    def answers(model: bytes, weights: Any = None) -> list[NDArray[Any]]:
        found = []
        for switch in ("0", "1"):
            monkeypatch.setenv("EDGELM_EXACT_PRODUCTS", switch)
            found.append(answer(model, weights))
        return found

    return answers


@pytest.mark.parametrize("case", CASES)
def test_the_answer_is_the_same_to_the_bit(case: str, both: Any) -> None:
    model = graph(CASES[case]).SerializeToString()
    plain, exact = both(model)
    np.testing.assert_array_equal(exact, plain)
    changed, outside = with_unsigned_weights(model, {})
    onnx.checker.check_model(onnx.load_from_string(changed))
    assert outside == {}
    before, after = kinds(model), kinds(changed)
    if case == "nothing to change":
        assert changed == model
    elif case == "a weight that is read, too":
        assert (after["w"], after["w/uint8"]) == (TensorProto.INT8, TensorProto.UINT8)
    elif case == "signed activations beside unsigned ones":
        assert {"w", "w/uint8", "z"} < set(after)
    else:  # a weight stays one, however many use it
        assert set(after) - set(before) <= {"edgelm/zero/uint8", "z/uint8"}
        assert after.get("w", after.get("wide")) == TensorProto.UINT8


def test_the_answer_is_exact_where_products_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGELM_EXACT_PRODUCTS", "1")
    weight = np.full((WIDTH, WIDTH), 127, np.int8)
    nodes = [
        node("QuantizeLinear", "x s low", "q"),
        node("MatMulInteger", "q w low", "p"),
        node("Cast", "p", "y", to=1),
    ]
    model = graph(nodes, {"w": weight, "s": np.float32(1e-6), "low": np.uint8(0)}).SerializeToString()
    expected = np.where(ROWS > 0, 255, 0).sum(axis=2, keepdims=True) * np.full(WIDTH, 127)
    np.testing.assert_array_equal(answer(model), expected)


class Outside:
    """Tensors beside the graph."""

    def __init__(self, **arrays: NDArray[Any]) -> None:
        self.arrays = arrays

    def release(self) -> None:
        pass


@pytest.mark.parametrize("case", ["a weight of two products", "a weight that is read, too"])
def test_weights_beside_the_graph_are_moved_and_not_written(case: str, both: Any) -> None:
    proto = graph(CASES[case])
    inside = proto.SerializeToString()
    (tensor,) = (one for one in proto.graph.initializer if one.name == "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="model.safetensors")
    weight = WEIGHT.copy()
    weight.flags.writeable = False
    plain, exact = both(proto.SerializeToString(), Outside(w=weight))
    np.testing.assert_array_equal(plain, both(inside)[0])
    np.testing.assert_array_equal(exact, plain)


def test_weights_as_lists_of_integers_and_a_graph_in_two_parts() -> None:
    proto = graph(CASES["a weight of two products"])
    (tensor,) = (one for one in proto.graph.initializer if one.name == "w")
    tensor.ClearField("raw_data")
    tensor.int32_data.extend(WEIGHT.ravel().tolist())
    first = onnx.ModelProto(graph=onnx.GraphProto(node=proto.graph.node[:3])).SerializeToString()
    del proto.graph.node[:3]
    proto.graph.value_info.append(helper.make_tensor_value_info("w", TensorProto.INT8, WEIGHT.shape))
    changed, _ = with_unsigned_weights(first + proto.SerializeToString(), {})
    plain, _ = with_unsigned_weights(graph(CASES["a weight of two products"]).SerializeToString(), {})
    np.testing.assert_array_equal(answer(changed), answer(plain))


@given(st.integers(0, 1 << 30), st.integers(0, 255))
def test_damaged_graphs_are_refused_or_passed_on(at: int, value: int) -> None:
    model = bytearray(graph(CASES["a zero point a column"]).SerializeToString())
    model[at % len(model)] = value
    with suppress(BundleRejected):
        assert isinstance(with_unsigned_weights(bytes(model), {})[0], bytes)
