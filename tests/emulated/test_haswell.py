"""The runtime on older x86-64 CPUs, emulated: the same answers as here, and what would be wrong without our care."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import which

import numpy as np
import pytest

from edgelm_runtime.initializers import nodes as onnx_nodes
from tests.emulated.machine import BUNDLES, UNPROTECTED, Machine, with_our_answers, x86

pytestmark = pytest.mark.skipif(which("qemu-x86_64") is None, reason="needs qemu-x86_64: apt-get install qemu-user")

HASWELL = x86("Haswell")  # AVX2 without VNNI
NEHALEM = x86("Nehalem")  # no AVX: what Celerons of tills have had for long
PENRYN = x86("Penryn")  # older than x86-64-v2
PRODUCT = """
import json, mmap, sys
import numpy as np
from edgelm_runtime import session
from edgelm_runtime.weights import Weights

graph, weights = sys.argv[1:]
rows = np.full((3, 64), 255, np.uint8)
def product():
    with open(weights, "rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    options = session.SessionOptions(threads=1)
    made = session.create_session(open(graph, "rb").read(), options, Weights("weights", mapped))
    return session.run(made, {"rows": rows}, ["product"])[0].tolist()
careful = product()
session.products_saturate = lambda: False
print(json.dumps([careful, product()]))
"""


@pytest.mark.parametrize("name", ["sentiment-zh", "sentiment-en", "writer"])
@pytest.mark.parametrize("cpu", [HASWELL, NEHALEM], ids=["haswell", "nehalem"])
def test_the_answers_of_this_machine_are_given_there(cpu: Machine, name: str, tmp_path: Path) -> None:
    assert cpu.verify(with_our_answers(name, tmp_path))["golden"] >= 3


@pytest.mark.parametrize("name", ["sentiment-zh", "sentiment-en"])
@pytest.mark.parametrize("cpu", [HASWELL, NEHALEM], ids=["haswell", "nehalem"])
def test_golden_answers_are_given_there(cpu: Machine, name: str) -> None:
    assert cpu.verify(BUNDLES / name)["golden"] >= 7


def test_layers_that_share_their_weights_are_loaded_there(tmp_path: Path) -> None:
    graphs = pytest.importorskip("tests.export.graphs")
    pipeline = pytest.importorskip("edgelm_export.pipeline")
    checkpoint = graphs.save(tmp_path / "albert", "albert", graphs.TASKS[0], num_hidden_layers=3)
    pipeline.export(pipeline.ExportOptions(checkpoint, tmp_path / "bundle", task="classify"))
    graph = onnx_nodes((tmp_path / "bundle" / "model.onnx").read_bytes())
    weights = [inputs[1] for kind, inputs in graph if kind == "MatMulIntegerToFloat"]
    assert len(set(weights)) < len(weights)
    assert HASWELL.verify(tmp_path / "bundle")["golden"] > 0


def test_without_exact_products_they_are_not() -> None:
    done = HASWELL.run("-c", UNPROTECTED, str(BUNDLES / "writer"))
    assert "BundleRejected: a golden answer differs on this machine" in done.stderr


def test_products_are_exact_also_with_weights_in_a_file(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    numpy_file = pytest.importorskip("safetensors.numpy")
    right = np.random.default_rng(0).integers(90, 128, (64, 8), np.int8)
    numpy_file.save_file({"right": right}, tmp_path / "model.safetensors")
    tensor = onnx.numpy_helper.from_array(right, "right")
    onnx.external_data_helper.set_external_data(tensor, "model.safetensors")
    tensor.ClearField("raw_data")
    helper, kind = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["rows", "right"], ["product"])], "product",
        [helper.make_tensor_value_info("rows", kind.UINT8, ["n", 64])],
        [helper.make_tensor_value_info("product", kind.INT32, ["n", 8])], [tensor],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (tmp_path / "graph").write_bytes(model.SerializeToString())
    done = HASWELL.run("-c", PRODUCT, str(tmp_path / "graph"), str(tmp_path / "model.safetensors"))
    assert done.returncode == 0, done.stderr
    careful, careless = json.loads(done.stdout)
    exact = np.tile(255 * right.astype(np.int32).sum(axis=0), (3, 1))
    np.testing.assert_array_equal(careful, exact)
    assert (np.array(careless) < exact).all()


def test_a_cpu_too_old_for_numpy_is_named_in_one_line() -> None:
    done = PENRYN.run("-m", "edgelm", "run", "sentiment", "good")
    assert done.returncode != 0
    assert "your machine doesn't support: (X86_V2)" in done.stderr
    assert "Traceback" not in done.stderr
