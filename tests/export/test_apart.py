"""Large weights beside the graph: what is written, in which order, and that nothing is there twice."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import safetensors.numpy

from edgelm_export.apart import ALIGNMENT, WeightsFile, WeightsWriter, written_in
from edgelm_export.families import Wanted, gpt2, llama
from edgelm_export.graph import LARGE_BYTES, OPSET, WEIGHTS_FILE, GraphBuilder, Shelf
from edgelm_export.quantize import scheme
from edgelm_runtime.bundle import open_bundle, write_bundle
from edgelm_runtime.session import SessionOptions, create_session, run
from edgelm_runtime.weights import Weights
from tests.export import tiny

SCHEMES = ("fp32", "int8", "int8-static", "int8-mixed", "int8-blocks", "int4-32", "int4-64", "int4-128")


def content(file: WeightsFile) -> bytes:
    file.numbers.seek(0)
    return file.header + file.numbers.read()


def test_what_is_written_is_a_safetensors_file_with_aligned_tensors() -> None:
    random = np.random.default_rng(0)
    arrays = {
        "odd": random.integers(0, 255, (7, 11), np.uint8),
        "even": random.standard_normal((16, 4)).astype(np.float32),
        "half": random.standard_normal(3).astype(np.float16),
        "whole": np.arange(8),
        "scalar": np.array(2.5, np.float32),
        "empty": np.empty((0, 4), np.int8),
    }
    writer = WeightsWriter()
    for name, array in arrays.items():
        writer.add(name, array)
    file = writer.finish()
    data = content(file)
    stored = safetensors.numpy.load(data)  # refuses gaps and tensors that overlap
    assert stored.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(stored[name], array)
        assert stored[name].dtype == array.dtype
        begin, end = file.places[name]
        assert data[begin:end] == array.tobytes()
        assert begin % array.itemsize == 0
    assert len(file.header) % ALIGNMENT == 0
    assert all(file.places[name][0] % ALIGNMENT == 0 for name in ("even", "whole"))


def test_weights_are_written_in_the_folder_that_was_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), written_in(tmp_path / "missing"):
        WeightsWriter()
    with written_in(tmp_path):
        writer = WeightsWriter()
        writer.add("large", np.zeros(1 << 14, np.float32))
        writer.finish().numbers.close()
    assert list(tmp_path.iterdir()) == []
    WeightsWriter().finish().numbers.close()


def test_a_graph_writes_its_large_weights_as_they_come_and_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelm_export.graph.APART_BYTES", 3 * 8192)
    graph = GraphBuilder("test")
    names = ["first", "second", "third", "fourth"]
    values = [graph.weight(name, np.full((64, 32), index, np.float32)) for index, name in enumerate(names)]
    small = graph.weight("small", np.zeros(2, np.float32))
    assert [value.const_value is None for value in values] == [True] * 4
    assert small.const_value is not None
    x = graph.input("x", ir.DataType.FLOAT, [1])
    graph.output(graph.add(x, small), "y", ir.DataType.FLOAT, [2])
    model = graph.serialize()
    assert model.weights is not None
    stored = safetensors.numpy.load(content(model.weights))
    assert [stored[name][0, 0] for name in names] == [0, 1, 2, 3]
    model.close()
    assert model.weights.numbers.closed


def test_equal_large_weights_are_stored_once() -> None:
    graph = GraphBuilder("test")
    table = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    assert graph.weight("shared", table) is graph.weight("head", table.copy())
    assert graph.weight("turned", table.reshape(32, 64)) is not graph.weight("shared", table)
    assert graph.weight("other", table + 1) is not graph.weight("shared", table)


def test_two_graphs_share_what_is_large() -> None:
    table = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    reads = GraphBuilder("reads", shelf=Shelf(apart_from=0))
    writes = GraphBuilder("writes", shelf=reads.shelf)
    for graph, name in ((reads, "shared"), (writes, "head")):
        assert graph.weight(name, table.copy()).name == "shared"
        own = graph.weight(f"own_{name}", table + len(name))
        graph.output(graph.add(graph.input("x", ir.DataType.FLOAT, [64, 32]), own), "y", ir.DataType.FLOAT, [64, 32])
    with pytest.raises(ValueError, match="shared stands for different weights"):
        GraphBuilder("third", shelf=reads.shelf).weight("shared", table + 1)
    model = writes.serialize(reads)
    assert model.weights is not None
    assert model.encoder is not None
    stored = safetensors.numpy.load(content(model.weights))
    assert stored.keys() == {"shared", "own_shared", "own_head"}
    for graph_bytes, names in ((model.graph, {"shared", "own_head"}), (model.encoder, {"shared", "own_shared"})):
        assert set(ir.serde.deserialize_model(_parsed(graph_bytes)).graph.initializers) == names


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_tied_table_is_stored_once_in_every_scheme(name: str, kind: str) -> None:
    model = (
        tiny.gpt2(n_embd=128) if kind == "gpt2" else tiny.decoder("llama", hidden_size=128, tie_word_embeddings=True)
    )
    vocabulary = model.config.vocab_size
    family = {"gpt2": gpt2, "llama": llama}[kind]
    built = family.build(
        tiny.Tensors(model), model.config.to_dict(), scheme(name), Wanted("text-generation", tiny.CONTEXT)
    )
    proto = ir.serde.deserialize_model(_parsed(built.graph))
    tables = [
        value.name
        for value in proto.graph.initializers.values()
        if value.shape is not None and value.shape.numpy()[0] == vocabulary and value.const_value is not None
        and value.const_value.nbytes > 0.1 * 4 * vocabulary * 128
    ]  # fmt: skip
    assert len(tables) == 1, tables


def _parsed(graph: bytes) -> object:
    import onnx

    return onnx.load_from_string(graph)


def test_a_bundle_takes_a_file_in_parts_and_an_export_gives_the_same_bytes_again(tmp_path: Path) -> None:
    found = []
    for place in ("a", "b"):
        writer = WeightsWriter()
        for index in range(3):
            writer.add(f"weights.{index}", np.full(1 << 12, index, np.float32))
        file = writer.finish()
        manifest = open_bundle(Path(__file__).parents[1] / "data" / "tiny-classifier").manifest
        source = Path(__file__).parents[1] / "data" / "tiny-classifier"
        contents = {name: source / name for name in manifest.files}
        bundle = write_bundle(tmp_path / place, manifest, {**contents, "w.safetensors": (file.header, file.numbers)})
        bundle.verify_hashes()
        found.append((tmp_path / place / "w.safetensors").read_bytes())
        assert json.loads(found[-1][8 : 8 + int.from_bytes(found[-1][:8], "little")]).keys() == {
            f"weights.{index}" for index in range(3)
        }
    assert found[0] == found[1]


def test_weights_above_what_protobuf_can_hold_are_read_where_they_lie(tmp_path: Path) -> None:
    """A table of 2.2 GB, all but its last row a hole in the file, so that hardly anything is written or read."""
    rows, width = 2_200_000, 1000
    entry = {"dtype": "I8", "shape": [rows, width], "data_offsets": [0, rows * width]}
    header = json.dumps({"table": entry}).encode()
    start = 8 + len(header)
    with (tmp_path / WEIGHTS_FILE).open("w+b") as sparse:
        sparse.write(len(header).to_bytes(8, "little") + header)
        sparse.seek(start + (rows - 1) * width)
        sparse.write(np.full(width, 7, np.int8).tobytes())
        sparse.flush()
        mapped = mmap.mmap(sparse.fileno(), 0, access=mmap.ACCESS_READ)
    shape = ir.Shape([rows, width])
    outside = ir.ExternalTensor(WEIGHTS_FILE, start, rows * width, ir.DataType.INT8, shape=shape, name="table")
    table = ir.Value(name="table", type=ir.TensorType(ir.DataType.INT8), shape=shape, const_value=outside)
    ids = ir.Value(name="ids", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["n"]))
    found = ir.Value(name="rows", type=ir.TensorType(ir.DataType.INT8), shape=ir.Shape(["n", width]))
    gather = ir.node("Gather", [table, ids], {"axis": 0}, outputs=[found])
    graph = ir.Graph([ids], [found], nodes=[gather], initializers=[table], opset_imports={"": OPSET}, name="large")
    model = ir.serde.serialize_model(ir.Model(graph, ir_version=10)).SerializeToString()
    assert len(model) < LARGE_BYTES
    session = create_session(model, SessionOptions(1), Weights(WEIGHTS_FILE, mapped))
    (answer,) = run(session, {"ids": np.array([0, rows - 1])}, ["rows"])
    assert answer.sum(axis=1).tolist() == [0, 7 * width]
