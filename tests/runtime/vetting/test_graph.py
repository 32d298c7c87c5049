"""Graphs that end the process, reach outside or compute what no export does are refused on their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelm_runtime.bundle import default_bundles, open_bundle, write_bundle
from edgelm_runtime.errors import BundleRejected
from edgelm_runtime.loader import load
from edgelm_runtime.vetting.graph import check_graph
from edgelm_runtime.vetting.operators import CONTRIB, MICROSOFT, ONNX, OPERATORS

DATA = Path(__file__).parents[2] / "data"
LEAST = np.iinfo(np.int64).min


def model(nodes: Sequence[onnx.NodeProto], *arrays: tuple[str, Any], opset: int = 21) -> onnx.ModelProto:
    """A model with int64 [n] `ids`, float [n] `x` and these initializers."""
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(np.array(array), name) for name, array in arrays]
    graph = helper.make_graph(nodes, "g", inputs, [output], stored)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def node(op_type: str, *inputs: str, domain: str = "", out: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, list(inputs), [out], domain=domain, **attributes)


def refused(found: onnx.ModelProto | bytes, match: str) -> None:
    data = found if isinstance(found, bytes) else found.SerializeToString()
    with pytest.raises(BundleRejected, match=match) as caught:
        check_graph(data)
    assert "export the bundle again" in str(caught.value)


def branch() -> onnx.GraphProto:
    return helper.make_graph([node("Identity", "x")], "b", [], [helper.make_tensor_value_info("y", 1, None)])


@pytest.mark.parametrize(
    "found",
    [
        model([node("Add", "x", "one")], ("one", np.float32(1))),
        model([node("Div", "x", "x")]),
        model([node("Sqrt", "x", out="r"), node("Div", "x", "r")]),
        model([node("Cast", "ids", out="f", to=TensorProto.FLOAT), node("Div", "f", "f")]),
        model([node("Div", "ids", "two", out="h"), node("Cast", "h", to=1)], ("two", 2)),
        model([node("Mod", "ids", "some")], ("some", [3, -7])),
        model([node("QuickGelu", "x", domain=MICROSOFT, alpha=1.0)]),
        model([node("Identity", "x", domain="ai.onnx")]),
        model([node("ReduceMean", "x", axes=[0])], opset=17),
        model([node("Expand", "x", "shape")], ("shape", [1 << 20, 64])),
    ],
)
def test_what_an_export_may_write_passes(found: onnx.ModelProto) -> None:
    check_graph(found.SerializeToString())


@pytest.mark.parametrize("name", default_bundles())
def test_the_shipped_graphs_pass(name: str) -> None:
    bundle = open_bundle(default_bundles()[name], verify="lazy")
    for variant in bundle.manifest.variants:
        check_graph(bundle.read(variant.file))


@pytest.mark.parametrize(
    ("found", "match"),
    [
        (model([node("Div", "ids", "ids")]), "may divide an integer"),
        (model([node("Div", "ids", "d")], ("d", [3, -1])), "may divide an integer"),
        (model([node("Mod", "ids", "d")], ("d", [0])), "may divide an integer"),
        (model([node("Mod", "ids", "d", fmod=1)], ("d", np.arange(1, 100))), "may divide an integer"),
        (model([node("Div", "least", "ids")], ("least", [LEAST])), "may divide an integer"),
        (model([node("Identity", "ids", out="i"), node("Div", "i", "i")]), "may divide an integer"),
        (model([node("Split", "ids", "one"), node("Div", "y", "y", out="z")], ("one", [1])), "may divide an integer"),
        (model([node("Div", "ids", "d", out="z"), node("Identity", "x", out="d")]), "may divide an integer"),
        (model([node("Max", "x", "", "x")]), "has left out an input"),
        (model([node("Concat", "", axis=0)]), "has left out an input"),
        (model([node("Attention", "x", "x", domain=MICROSOFT, num_heads=1)]), "has left out an input"),
        (model([node("Attention", "x", "x", "", domain=MICROSOFT, num_heads=1)]), "has left out an input"),
        (model([node("Split", "x", num_outputs=(1 << 31) - 1)]), "another number of num_outputs"),
        (model([node("Multinomial", "x", sample_size=1)]), "the operator ai.onnx.Multinomial"),
        (model([node("RandomNormalLike", "x")]), "the operator ai.onnx.RandomNormalLike"),
        (model([node("If", "x", then_branch=branch(), else_branch=branch())]), "is a graph"),
        (model([node("Loop", "", "", body=branch())]), "is a graph"),
        (model([node("EPContext", "x", domain=MICROSOFT)]), "com.microsoft.EPContext"),
        (model([node("Add", "x", "x", domain="org.example")]), "org.example.Add"),
        (model([node("Relu", "x", consumed_inputs=[1])]), "the attribute 'consumed_inputs', accepted: none"),
        (model([node("Softmax", "x", axis=1 << 40)]), "accepted are integers of 32 bits"),
        (model([node("Einsum", "x", equation="i" * 5000)]), "longer than 4,096 bytes"),
        (model([node("Cast", "x", to=TensorProto.STRING)]), "a tensor of the type 8"),
        (model([node("Add", "x", "x")], opset=25), "it needs opset 25"),
        (model([node("Expand", "x", "shape")], ("shape", [1 << 40])), "makes a tensor of the size"),
        (model([node("Tile", "x", "shape")], ("shape", [1 << 14] * 3)), "makes a tensor of the size"),
        (model([node("ConstantOfShape", "s")], ("s", [-5, 1 << 50])), "makes a tensor of the size"),
        (model([node("Range", "zero", "limit", "zero")], ("zero", 0), ("limit", 1 << 40)), "makes a tensor of"),
        (model([node("Add", "x", "x"), node("Mul", "x", "x")]), "'y' stands for two values"),
    ],
)  # fmt: skip
def test_what_no_export_writes_is_refused(found: onnx.ModelProto, match: str) -> None:
    refused(found, match)


def test_functions_and_second_graphs_are_refused() -> None:
    found = model([node("Add", "x", "x")])
    found.functions.add(name="Add", domain="")
    refused(found, "functions")
    data = model([node("Add", "x", "x")]).SerializeToString()
    refused(data + b"\x3a\x00", "not one graph alone")
    sparse = model([node("Add", "x", "x")])
    sparse.graph.sparse_initializer.add()
    refused(sparse, "sparse")


@pytest.mark.parametrize("location", ["/etc/passwd", "../x", "*/_ORT_MEM_ADDR_/*", "weights", "a\\b"])
@pytest.mark.parametrize("outside", [True, False])
def test_a_tensor_outside_the_graph_is_in_the_weights_file_or_refused(location: str, outside: bool) -> None:
    found = model([node("Add", "x", "w")])
    tensor = found.graph.initializer.add(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "140737488355328"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    if outside and location == "weights":
        check_graph(found.SerializeToString(), outside=True)
        return
    with pytest.raises(BundleRejected, match="is outside the graph"):
        check_graph(found.SerializeToString(), outside=outside)
    tensor.data_location = TensorProto.DEFAULT  # parsers differ on what counts then
    with pytest.raises(BundleRejected, match="is outside the graph"):
        check_graph(found.SerializeToString(), outside=outside)


def test_a_constant_is_inside_the_graph() -> None:
    value = numpy_helper.from_array(np.float32([1]))
    value.ClearField("raw_data")
    value.data_location = TensorProto.EXTERNAL
    value.external_data.add(key="location", value="weights")
    with pytest.raises(BundleRejected, match="is outside the graph"):
        check_graph(model([node("Constant", value=value)]).SerializeToString(), outside=True)


@pytest.mark.parametrize("dims", [[1 << 40], [1 << 62, 1 << 62], [4, -1], [1] * 40, [5]])
def test_a_tensor_is_as_large_as_it_says(dims: list[int]) -> None:
    found = model([node("Add", "x", "w")], ("w", np.zeros(4, np.float32)))
    found.graph.initializer[0].dims[:] = dims
    refused(found, "the tensor 'w' has the shape")
    tensor = found.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.float_data[:] = [0.0] * 4
    if dims != [5]:  # onnxruntime counts these
        refused(found, "the tensor 'w' has the shape")


def test_declared_shapes_are_bounded_and_names_are_text() -> None:
    found = model([node("Add", "x", "x")])
    found.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1 << 40
    refused(found, "has a dimension of 1,099,511,627,776")
    found.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1
    refused(found, "is no tensor")
    named = model([node("Add", "x", "x")], ("unused", 1)).SerializeToString()
    for name in (b"unused", b"ids", b"Add"):
        refused(named.replace(name, b"\xff" * len(name)), "utf-8")


def test_what_parsers_read_differently_is_refused() -> None:
    data = model([node("Add", "x", "x")]).SerializeToString()
    refused(b"\x08\x8a\x00" + data, "more bytes than it needs")  # ir_version 10 in two bytes
    refused(b"\xba\x80\x80\x80\x10\x00" + data, "the tag")  # field 7 in the low 32 bits of a tag of 33
    refused(b"\x08" + b"\xff" * 9 + b"\x7f" + data, "over 64 bits")
    refused(b"\x08\x0a" + b"\0\0ORTM" + data, "onnxruntime's own format")
    refused(data[:3] + b"\x00ORTM" + data, "onnxruntime's own format")


def test_many_small_fields_cost_no_time() -> None:
    refused(b"\x08\x0a" * 2_000_000, "fields")


def test_a_bundle_is_refused_before_onnxruntime_has_its_graph(tmp_path: Path) -> None:
    bundle = open_bundle(DATA / "tiny-classifier")
    contents = {name: bundle.read(name) for name in bundle.manifest.files}
    found = onnx.load_from_string(contents["model.onnx"])
    found.graph.node.append(node("Mod", "input_ids", "input_ids", out="unused"))
    contents["model.onnx"] = found.SerializeToString()
    with pytest.raises(BundleRejected, match="Mod may divide an integer"):
        load(write_bundle(tmp_path / "bundle", bundle.manifest, contents).path)


def test_attributes_are_those_of_the_operators() -> None:
    for name, operator in ONNX.items():
        schemas = [onnx.defs.get_schema(name, opset, "") for opset in (11, 17, 21) if onnx.defs.has(name, opset, "")]
        known = {attribute for schema in schemas for attribute in schema.attributes}
        assert operator.attributes <= known or name == "SimplifiedLayerNormalization", name  # onnxruntime's own
    pybind = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    contrib = {each.name: each for each in pybind.get_all_operator_schema() if each.domain == MICROSOFT}
    for name, operator in CONTRIB.items():
        assert operator.attributes <= set(contrib[name].attributes), name
    assert set(OPERATORS) == {"", "ai.onnx", MICROSOFT}
