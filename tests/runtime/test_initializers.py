"""What a graph says of its initializers, read without the onnx package, beside what the onnx package reads."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm_runtime.errors import BundleRejected
from edgelm_runtime.initializers import ONNX_TYPES, declared_initializers, nodes

TENSORS = st.dictionaries(
    st.text(max_size=8),
    st.tuples(st.integers(0, 30), st.lists(st.integers(0, 1 << 62), max_size=4)),
    max_size=5,
)


def model(*tensors: onnx.TensorProto) -> bytes:
    graph = onnx.GraphProto(name="g", initializer=tensors, doc_string="d" * 200)
    graph.node.add(op_type="Constant").attribute.add(name="value", f=1.0)
    return bytes(onnx.ModelProto(ir_version=10, producer_name="p", graph=graph).SerializeToString())


@given(TENSORS)
def test_types_and_shapes_are_those_that_onnx_reads(tensors: dict[str, tuple[int, list[int]]]) -> None:
    protos = [onnx.TensorProto(name=name, data_type=kind, dims=dims) for name, (kind, dims) in tensors.items()]
    expected = {name: (kind, tuple(dims)) for name, (kind, dims) in tensors.items()}
    assert declared_initializers(model(*protos)) == expected


def test_numbers_inside_and_packed_shapes_are_read_too() -> None:
    inside = onnx.numpy_helper.from_array(np.ones((3, 200), np.float32), "inside")
    packed = b"\x0a\x03\x02\xac\x02" + b"\x10\x01" + b"\x42\x01p"  # dims 2, 300; float; "p"
    graph = b"\x2a" + bytes([len(packed)]) + packed
    whole = model(inside) + b"\x3a" + bytes([len(graph)]) + graph  # a second graph field: parsers merge the two
    assert declared_initializers(whole) == {"inside": (1, (3, 200)), "p": (1, (2, 300))}
    merged = onnx.load_from_string(whole).graph.initializer
    assert [(one.name, list(one.dims)) for one in merged] == [("inside", [3, 200]), ("p", [2, 300])]


def test_nodes_are_those_that_onnx_reads() -> None:
    graph = onnx.GraphProto(name="g")
    graph.node.add(op_type="Gather", input=["表", "ids"], output=["x"], name="first").attribute.add(name="axis", i=0)
    graph.node.add(op_type="Clip", input=["x", "", "most"], output=["y"], domain="com.microsoft")
    data = onnx.ModelProto(graph=graph).SerializeToString()
    assert nodes(data) == [("Gather", ("表", "ids")), ("Clip", ("x", "", "most"))]


def test_the_types_are_those_of_onnx() -> None:
    for dtype, number in ONNX_TYPES.items():
        assert onnx.helper.np_dtype_to_tensor_dtype(dtype) == number


@pytest.mark.parametrize(
    "data",
    [
        model(onnx.TensorProto(name="a"), onnx.TensorProto(name="a")),
        b"\x3a\x05abc",
        b"\x3b",
        b"\xff" * 20,
        b"\x3a",
        model(onnx.TensorProto(name="a"))[:-3],
        b"\x3a\x05\x2a\x03\x42\x01\xff",
    ],
)
def test_what_is_no_model_or_names_one_twice_is_refused(data: bytes) -> None:
    with pytest.raises(BundleRejected, match="no ONNX model"):
        declared_initializers(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(BundleRejected):
        assert isinstance(declared_initializers(data), dict)
