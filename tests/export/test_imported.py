"""Folders that optimum exported: the graph is taken as it is, prepared, quantized, verified and bundled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper
from transformers import AutoModel

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.sources import Origin
from edgelm_export.doctor import diagnose
from edgelm_export.families import POOLINGS, Dense, Normalize, Wanted
from edgelm_export.imported import OnnxReference, graph_for, open_graph
from edgelm_export.passes import prepared, sessions
from edgelm_export.passes.placing import placed
from edgelm_export.passes.sessions import session_of
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.quantize import scheme
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.loader import load
from edgelm_runtime.session import SessionOptions, create_session, run
from edgelm_runtime.verify import verify_bundle
from tests.export import onnx_folder
from tests.export.graphs import Answers
from tests.export.tiny import CONTEXT, bert, rows, torch_logits

_RANDOM = np.random.default_rng(0)
DENSE = (
    Dense("dense_2", _RANDOM.normal(size=(64, 48)).astype(np.float32), None, "GELU"),
    Dense("dense_3", _RANDOM.normal(size=(48, 24)).astype(np.float32), np.ones(24, np.float32), "Tanh"),
)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_folder.write(tmp_path_factory.mktemp("optimum") / "bert", bert(spread=0.1), "logits")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = AutoModel.from_config(bert().config).eval()
    return onnx_folder.write(tmp_path_factory.mktemp("optimum") / "base", model, "last_hidden_state")


def _prepared(folder: Path, wanted: Wanted) -> ir.Model:
    return prepared(graph_for(folder, wanted), segments=wanted.segments, where="tiny").model


def test_the_prepared_graph_equals_torch(classifier: Path) -> None:
    model = bert(spread=0.1)
    graph = _prepared(classifier, Wanted("text-classification", CONTEXT))
    assert [value.name for value in graph.graph.inputs] == ["input_ids"]
    kinds = {node.op_type for node in graph.graph}
    assert {"LayerNormalization", "Gelu"} <= kinds
    assert not {"ReduceMean", "Erf", "Where", "Range", "Pow"} & kinds
    answers, small = Answers(graph, scheme("fp32")), Answers(graph, scheme("int8"))
    for ids in rows(600, (1, 2, 9, 40, CONTEXT)):
        expected = torch_logits(model, ids)
        np.testing.assert_allclose(answers(ids), expected, rtol=0, atol=1e-4)
        assert 0 < np.abs(small(ids) - expected).max() < 0.2 * np.abs(expected).max() + 0.02


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dense", [(), DENSE], ids=["plain", "dense"])
def test_states_are_pooled_as_the_reference_does(
    encoder: Path, pooling: str, normalize: bool, dense: tuple[Dense, ...]
) -> None:
    wanted = Wanted("feature-extraction", CONTEXT, (pooling,), (*dense, *([Normalize()] if normalize else [])))
    answers, reference = Answers(_prepared(encoder, wanted), scheme("fp32")), OnnxReference(encoder, wanted)
    for ids in rows(600, (1, 7, 33)):
        expected = reference.output(ids, [0] * len(ids))
        assert expected.shape == (DENSE[-1].weight.shape[1] if dense else 64,)
        np.testing.assert_allclose(answers(ids), expected, rtol=0, atol=1e-4)
        if normalize:
            assert np.linalg.norm(expected) == pytest.approx(1, abs=1e-5)


def test_pairs_keep_the_segments(classifier: Path) -> None:
    wanted = Wanted("text-classification", CONTEXT, pairs=True, segments=True)
    graph = _prepared(classifier, wanted)
    assert [value.name for value in graph.graph.inputs] == ["input_ids", "token_type_ids"]
    session = create_session(placed(graph, scheme("fp32"), "tiny").graph, SessionOptions(1))
    ids, segments = rows(600, (12,))[0], [0] * 5 + [1] * 7
    feeds = {"input_ids": np.array([ids]), "token_type_ids": np.array([segments])}
    with torch.inference_mode():
        both = bert(spread=0.1)(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([segments])).logits[0]
    np.testing.assert_allclose(run(session, feeds, ["logits"])[0][0], both.numpy(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(OnnxReference(classifier, wanted).output(ids, segments), both.numpy(), atol=1e-4)
    assert np.abs(both.numpy() - torch_logits(bert(spread=0.1), ids)).max() > 1e-3


def test_a_folder_of_optimum_becomes_a_bundle_with_the_same_answers(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = export(ExportOptions(classifier, tmp_path / "bundle"))
    assert report.parity.agreement == 1
    assert report.scheme == "int8-mixed"
    assert report.checkpoint_bytes > report.bundle_bytes
    assert "the graph of model.onnx is taken as it is" in capsys.readouterr().err
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert manifest.provenance["graph"] == "imported"
    assert manifest.labels == ("negative", "positive")
    verify_bundle(tmp_path / "bundle")
    checkpoint, model = load_checkpoint(classifier), load(tmp_path / "bundle")
    reference = OnnxReference(classifier, checkpoint.wanted)
    ids = model.tokenize("物流很快，质量也好")
    expected = reference.output(ids, [0] * len(ids))
    np.testing.assert_allclose(model.infer(ids), expected, rtol=0, atol=0.05 * float(np.abs(expected).max()) + 0.02)


def _rename_input(graph: Any) -> None:
    for node in graph.node:
        node.input[:] = ["tokens" if name == "input_ids" else name for name in node.input]
    graph.input[0].name = "tokens"


def _custom(graph: Any) -> None:
    graph.node.append(helper.make_node("Fancy", ["logits"], ["fancier"], domain="my.company"))


def _control(graph: Any) -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["logits"], ["same"])], "branch", [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)],
    )  # fmt: skip
    graph.node.append(helper.make_node("If", ["flag"], ["chosen"], then_branch=branch, else_branch=branch))


def _quantized(graph: Any) -> None:
    graph.node.append(helper.make_node("DynamicQuantizeLinear", ["logits"], ["a", "b", "c"]))


def _outside(graph: Any) -> None:
    tensor = graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../x"), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)


def _fixed(graph: Any) -> None:
    for axis, size in enumerate((1, 16)):
        graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size


def _half(graph: Any) -> None:
    graph.initializer.append(helper.make_tensor("half", TensorProto.FLOAT16, [1], [0.5]))


def _another_output(graph: Any) -> None:
    graph.output[0].name = "scores"


REFUSED: dict[str, tuple[Callable[[Any], None], str]] = {
    "custom": (_custom, r"custom operators: my\.company\.Fancy; export it with operators of ONNX"),
    "control": (_control, "control flow: If; export it again"),
    "quantized": (_quantized, "quantized operators: DynamicQuantizeLinear; give the float32 graph"),
    "outside": (_outside, r"tensors outside the folder: \.\./x; copy them beside the graph"),
    "half": (_half, "weights in half precision: half; export it in float32"),
    "inputs": (
        _rename_input,
        "the graph has the inputs tokens, attention_mask, token_type_ids; accepted are input_ids",
    ),
    "fixed": (_fixed, r"the input input_ids is INT64 \[1,16\]; needed is int64 \[batch, sequence\]"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_graphs(classifier: Path, tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
    folder = _changed(classifier, tmp_path / "changed", change)
    with pytest.raises(UnsupportedCheckpoint, match=message) as refused:
        load_checkpoint(folder)
    assert "\n" not in str(refused.value)


def _changed(folder: Path, to: Path, change: Callable[[Any], None]) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    model = onnx.load(folder / "model.onnx")
    change(model.graph)
    (to / "model.onnx").write_bytes(model.SerializeToString())
    return to


def test_a_graph_without_the_output_of_its_task_is_refused(classifier: Path, tmp_path: Path) -> None:
    folder = _changed(classifier, tmp_path / "changed", _another_output)
    with pytest.raises(UnsupportedCheckpoint, match=r"the outputs are scores .*; text-classification needs logits"):
        graph_for(folder, Wanted("text-classification", CONTEXT))


def test_what_is_no_onnx_file_is_refused(classifier: Path, tmp_path: Path) -> None:
    folder = _changed(classifier, tmp_path / "changed", lambda graph: None)
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(UnsupportedCheckpoint, match=r"model\.onnx: not an ONNX file"):
        load_checkpoint(folder)


def _apart(folder: Path, to: Path) -> Path:
    """A copy of a folder, whose graph has its tensors beside it."""
    shutil.copytree(folder, to)
    model = onnx.load(to / "model.onnx")
    (to / "model.onnx").unlink()
    onnx.save(model, to / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=64)
    return to


def test_tensors_beside_the_graph_are_read_where_they_lie(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _apart(classifier, tmp_path / "apart")
    external = [value.const_value for value in open_graph(folder).graph.initializers.values()]
    assert sum(isinstance(tensor, ir.ExternalTensor) for tensor in external) > 10
    wanted, ids = Wanted("text-classification", CONTEXT), rows(600, (7,))[0]
    expected = torch_logits(bert(spread=0.1), ids)
    monkeypatch.setattr(sessions, "APART_BYTES", 0)  # as if it were large
    answers = Answers(_prepared(folder, wanted), scheme("fp32"))
    np.testing.assert_allclose(answers(ids), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(OnnxReference(folder, wanted).output(ids, [0] * len(ids)), expected, rtol=0, atol=1e-4)
    assert export(ExportOptions(folder, tmp_path / "bundle")).parity.agreement == 1


def test_what_a_session_is_lent_stays_the_graph_s(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "APART_BYTES", 0)
    model = open_graph(classifier)
    before = {name: value.const_value for name, value in model.graph.initializers.items()}
    sent: list[bytes] = []
    create = sessions.create_session

    def noted(data: bytes, *rest: Any) -> Any:
        sent.append(data)
        return create(data, *rest)

    monkeypatch.setattr(sessions, "create_session", noted)
    session_of(model)
    assert len(sent[0]) < 0.2 * (classifier / "model.onnx").stat().st_size
    assert {name: value.const_value for name, value in model.graph.initializers.items()} == before


def _linked(folder: Path, tmp_path: Path) -> None:
    (folder / "model.onnx_data").rename(tmp_path / "elsewhere")
    (folder / "model.onnx_data").symlink_to(tmp_path / "elsewhere")


def _linked_hard(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").hardlink_to(folder / "model.onnx_data")


def _gone(folder: Path, tmp_path: Path) -> None:
    (folder / "model.onnx_data").unlink()


def _cut_off(folder: Path, tmp_path: Path) -> None:
    path = folder / "model.onnx_data"
    path.write_bytes(path.read_bytes()[:-5000])


def _elsewhere(location: str) -> Callable[[Path, Path], None]:
    def change(folder: Path, tmp_path: Path) -> None:
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = location if entry.key == "location" else entry.value
        shutil.copy(folder / "model.onnx_data", tmp_path / "model.onnx_data")
        (folder / "model.onnx").write_bytes(model.SerializeToString())

    return change


def _constant(folder: Path, tmp_path: Path) -> None:
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    tensor = next(each for each in model.graph.initializer if each.external_data)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["outer"], value=tensor))
    (folder / "model.onnx").write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_linked, r"tensors outside the folder: model\.onnx_data; copy them beside the graph"),
        (_linked_hard, r"tensors outside the folder: model\.onnx_data"),
        (_gone, r"tensors outside the folder: model\.onnx_data"),
        (_elsewhere("../model.onnx_data"), r"tensors outside the folder: \.\./model\.onnx_data"),
        (_elsewhere("/etc/passwd"), r"tensors outside the folder: /etc/passwd"),
        (_constant, r"tensors outside the folder: model\.onnx_data, of a constant"),
        (_cut_off, r"tensors that their file does not hold: .* in model\.onnx_data.*; the file is cut off"),
    ],
)
def test_tensors_that_are_not_in_their_file_are_refused(
    classifier: Path, tmp_path: Path, change: Callable[[Path, Path], None], message: str
) -> None:
    folder = _apart(classifier, tmp_path / "apart")
    change(folder, tmp_path)
    with pytest.raises(UnsupportedCheckpoint, match=message):
        load_checkpoint(folder)
    assert diagnose(Origin(folder)).problems[0].check == "architecture"


def test_links_of_the_hub_s_cache_are_followed(classifier: Path, tmp_path: Path) -> None:
    place = tmp_path / "models--someone--tiny"
    folder = _apart(classifier, place / "snapshots" / "0")
    (place / "blobs").mkdir()
    for index, path in enumerate(sorted(folder.iterdir())):
        path.rename(place / "blobs" / str(index))
        path.symlink_to(Path("../../blobs") / str(index))
    wanted, ids = load_checkpoint(folder).wanted, rows(600, (7,))[0]
    found = OnnxReference(folder, wanted).output(ids, [0] * len(ids))
    np.testing.assert_allclose(found, torch_logits(bert(spread=0.1), ids), rtol=0, atol=1e-4)


def test_a_graph_in_a_folder_of_its_own_is_found_and_others_are_named(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _apart(classifier, tmp_path / "hub")
    (folder / "onnx").mkdir()
    for name in ("model.onnx", "model.onnx_data"):
        (folder / name).rename(folder / "onnx" / name)
    for name in ("model_O2.onnx", "model_quantized.onnx"):
        shutil.copy(folder / "onnx" / "model.onnx", folder / "onnx" / name)
    findings = {finding.check: finding for finding in diagnose(Origin(folder)).findings}
    assert findings["architecture"].state == "note"
    assert findings["architecture"].text == (
        "bert: the graph is taken from the ONNX file onnx/model.onnx; "
        "left where they are: model_O2.onnx, model_quantized.onnx"
    )
    export(ExportOptions(folder, tmp_path / "bundle", precision="fp32"))
    said = capsys.readouterr().err
    assert "left where they are: model_O2.onnx" in said
    assert "the graph of onnx/model.onnx is taken as it is" in said
    (folder / "onnx" / "model.onnx").unlink()
    with pytest.raises(UnsupportedCheckpoint, match=r"model\.onnx alone is taken, which is not among model_O2"):
        load_checkpoint(folder)


def test_labels_are_those_of_the_configuration(classifier: Path, tmp_path: Path) -> None:
    folder = _changed(classifier, tmp_path / "changed", lambda graph: None)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "bad", "1": "good"}
    (folder / "config.json").write_text(json.dumps(config))
    assert load_checkpoint(folder).labels == ("bad", "good")
