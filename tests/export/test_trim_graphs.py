"""A cut vocabulary of graphs that were not built from the weights: traced, or taken from an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.families import Wanted
from edgelm_export.graph_reference import reference_of
from edgelm_export.passes import prepared
from edgelm_export.passes.trimming import Kept, cut_table
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.quantize import scheme
from edgelm_export.reference import Reference
from edgelm_export.trace import trace
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.loader import load
from edgelm_runtime.tokenizer import TextTokenizer
from edgelm_runtime.verify import verify_bundle
from tests.export import graphs, onnx_folder, tiny
from tests.export.graphs import Answers
from tests.export.test_trim import CORPUS

KEPT = np.array([0, 1, 2, 5, 7, *range(100, 200)])


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(CORPUS), "utf-8")
    return str(path)


def _imported(folder: Path) -> Path:
    return onnx_folder.write(folder, tiny.bert(spread=0.1), "logits")


def _traced(folder: Path) -> Path:
    return graphs.save(folder, "albert", graphs.TASKS[0])


@pytest.mark.parametrize("save", [_traced, _imported])
def test_a_cut_vocabulary_answers_as_the_whole_one(save: Any, tmp_path: Path, corpus: str) -> None:
    folder = save(tmp_path / "model")
    report = export(ExportOptions(folder, tmp_path / "cut", trim_vocab=corpus, precision="fp32", languages=("en",)))
    assert report.parity.agreement == 1
    assert verify_bundle(tmp_path / "cut").golden > 0
    vocabulary = open_bundle(tmp_path / "cut").manifest.provenance["vocabulary"]
    width = 16 if save is _traced else 64
    assert vocabulary["saved_bytes"] == 4 * width * vocabulary["dropped"] > 0
    whole = load_checkpoint(folder)
    reference = Reference(whole) if save is _traced else reference_of(whole)
    tokenizer, cut = TextTokenizer(whole.tokenizer_json, whole.tokenizer), load(tmp_path / "cut")
    for text in CORPUS:
        ids = tokenizer.encode(text)
        assert cut.tokenize(text) != ids
        np.testing.assert_allclose(cut.infer(cut.tokenize(text)), reference.logits([ids])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["deberta-v2", "data2vec-text"])
def test_traced_graphs_are_cut_where_it_is_certain_what_ids_are_for(kind: str) -> None:
    if kind == "data2vec-text":  # counts positions by padding, which it compares ids with
        model = tiny.encoder(kind, vocab_size=600, max_position_embeddings=tiny.CONTEXT + 2)
    else:
        model = graphs.model(kind, graphs.TASKS[0])
    wanted = Wanted(graphs.TASKS[0], tiny.CONTEXT)
    graph = prepared(trace(model, wanted, "tiny"), segments=False, where="tiny").model
    plain = Answers(graph, scheme("fp32"))
    rows = [np.random.default_rng(0).integers(0, len(KEPT), size).tolist() for size in (1, 7, 33)]
    expected = [plain(KEPT[row].tolist()) for row in rows]
    width = model.get_input_embeddings().weight.shape[1]
    assert cut_table(graph, Kept(KEPT, 600), "tiny") == 4 * width * (600 - len(KEPT))
    cut = Answers(graph, scheme("fp32"))
    for row, answer in zip(rows, expected, strict=True):
        np.testing.assert_allclose(cut(row), answer, rtol=0, atol=1e-6)


def _graph(*more: tuple[str, Any]) -> ir.Model:
    """A table of 600 tokens, looked up, and further nodes that read the ids or the table."""

    def stored(name: str, array: Any) -> ir.Value:
        tensor = ir.tensor(array, name=name)
        return ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))

    ids = ir.Value(name="input_ids", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["batch", "sequence"]))
    table = stored("table", np.ones((600, 4), np.float32))
    nodes, weights = [ir.node("Gather", [table, ids])], [table]
    for kind, given in more:
        if isinstance(given, np.ndarray):
            weights.append(stored(f"given_{len(weights)}", given))
            nodes.append(ir.node(kind, [weights[-1], ids]))
        else:
            nodes.append(ir.node(kind, [table if given == "table" else ids]))
    return ir.Model(
        ir.Graph([ids], [nodes[0].outputs[0]], nodes=nodes, initializers=weights, opset_imports={"": 21}), ir_version=10
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([("Cast", "ids")], r"does more with token ids than to look them up \(Cast\)"),
        ([("Equal", np.array(3))], r"does more with token ids than to look them up \(Equal\)"),
        ([("Equal", np.array([1, 5]))], r"does more with token ids than to look them up \(Equal\)"),
        ([("Gather", np.ones((500, 4), np.float32))], r"does more with token ids than to look them up \(Gather\)"),
        ([("Gather", np.zeros((600, 2), np.float32))], "has 2 tables of 600 tokens"),
        ([("Transpose", "table")], "has 1 tables of 600 tokens, used in Transpose too"),
    ],
)
def test_graphs_that_do_more_with_ids_are_refused_by_name(more: list[tuple[str, Any]], message: str) -> None:
    cut_table(_graph(("Shape", "ids"), ("Equal", np.array(2))), Kept(KEPT, 600), "tiny")
    with pytest.raises(UnsupportedCheckpoint, match=f"tiny: the graph {message}.*Leave --trim-vocab out"):
        cut_table(_graph(*more), Kept(KEPT, 600), "tiny")
