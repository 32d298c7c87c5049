"""Architectures without a family file: traced, prepared and placed like those that have one."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.families import Normalize, Wanted
from edgelm_export.passes import prepared
from edgelm_export.passes.layers import layers_of
from edgelm_export.passes.watching import watch
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.quantize import scheme
from edgelm_export.quantize.ranges import Range
from edgelm_export.trace import trace
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.loader import load
from edgelm_runtime.verify import verify_bundle
from tests.export.graphs import TASKS, TRACED, Answers, model, output, save
from tests.export.tiny import CONTEXT, edit_config, rows

LENGTHS = (1, 2, 7, 33, CONTEXT)  # 9 is traced
# Every kind as a classifier, and each of the other two heads on two of them: tracing takes seconds.
TRIED = [
    *((kind, TASKS[0]) for kind in TRACED),
    *zip(TRACED, (TASKS[1], TASKS[2], TASKS[1], TASKS[2]), strict=True),
]
SCHEMES = ("int8", "int8-blocks", "int8-mixed", "int8-static", "int4-32", "qdq-int8", "fp16")


def _wanted(task: str) -> Wanted:
    pooled = task == "feature-extraction"
    return Wanted(task, CONTEXT, ("mean",), (Normalize(),)) if pooled else Wanted(task, CONTEXT)


@cache
def _traced(kind: str, task: str) -> tuple[Any, ir.Model]:
    """torch's model, and its prepared graph."""
    made = model(kind, task)
    return made, prepared(trace(made, _wanted(task), "tiny"), segments=False, where="tiny").model


@pytest.mark.parametrize(("kind", "task"), TRIED)
def test_float32_equals_torch(kind: str, task: str) -> None:
    made, graph = _traced(kind, task)
    answers = Answers(graph, scheme("fp32"))
    for ids in rows(600, LENGTHS):
        expected = output(made, _wanted(task), ids)
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(answers(ids), expected, rtol=0, atol=1e-4)


def test_int8_keeps_the_answer_where_the_margin_allows_one() -> None:
    kept: list[bool] = []
    for kind in TRACED:
        made, graph = _traced(kind, TASKS[0])
        answers = Answers(graph, scheme("int8-mixed", _ranges(graph)))
        inputs = rows(600, [*range(1, CONTEXT, 3)], seed=3)
        expected = np.stack([output(made, _wanted(TASKS[0]), ids) for ids in inputs])
        found = np.stack([answers(ids) for ids in inputs])
        margin = np.diff(np.sort(expected)[:, -2:])[:, 0]
        decided = margin > 2 * np.abs(found - expected).mean()
        kept += (expected.argmax(1) == found.argmax(1))[decided].tolist()
    assert len(kept) > 100
    assert np.mean(kept) >= 0.99


def _ranges(graph: ir.Model) -> dict[str, Range]:
    ranges: dict[str, Range] = {}

    def note(name: str, inputs: np.ndarray) -> None:
        ranges[name] = Range.of(inputs).joined(ranges.get(name))

    watch(graph, [{"input_ids": np.array([ids])} for ids in rows(600, (CONTEXT,) * 8, seed=2)], note)
    return ranges


@pytest.mark.parametrize("used", SCHEMES)
def test_every_scheme_stores_a_traced_graph(used: str) -> None:
    _, graph = _traced("deberta-v2", TASKS[0])
    ranges = _ranges(graph)
    spans = {name: known.span() for name, known in ranges.items()}
    answers = Answers(graph, scheme(used, ranges, None, spans))
    plain = Answers(graph, scheme("fp32"))
    for ids in rows(600, LENGTHS):
        error = np.abs(answers(ids) - plain(ids)).max()
        assert 0 < error < (0.5 if used == "int4-32" else 0.2) * np.abs(plain(ids)).max() + 0.02


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    made, graph = _traced("albert", TASKS[0])
    batch = rows(600, (9, 9, 9))
    expected = [output(made, _wanted(TASKS[0]), ids) for ids in batch]
    np.testing.assert_allclose(Answers(graph, scheme("fp32")).batch(batch), np.stack(expected), rtol=0, atol=1e-5)


def test_a_mask_of_ones_leaves_nothing_behind_and_attention_is_one_node() -> None:
    _, graph = _traced("albert", TASKS[0])
    kinds = Counter(node.op_type for node in graph.graph)
    assert kinds["Attention"] == 2
    assert kinds["FastGelu"] == 2
    assert not kinds["Softmax"] + kinds["Where"] + kinds["Range"] + kinds["Pow"]


def test_what_depends_on_weights_alone_is_computed_once() -> None:
    _, graph = _traced("deberta-v2", TASKS[0])
    stored = set(graph.graph.initializers.values())
    assert not [node.name for node in graph.graph if all(value is None or value in stored for value in node.inputs)]


def test_layers_that_share_their_weights_store_them_once() -> None:
    _, graph = _traced("albert", TASKS[0])
    layers = list(layers_of(graph.graph).values())
    attentions = [layer for layer in layers if layer.kind == "attention"]
    assert len(attentions) == 2
    assert len({layer.name for layer in attentions}) == 1
    assert "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn" in {layer.name for layer in layers}


def test_a_traced_classifier_becomes_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save(tmp_path / "albert", "albert", TASKS[0])
    checkpoint = load_checkpoint(folder)
    report = export(ExportOptions(folder, tmp_path / "bundle", eval_file=None))
    assert report.scheme == "int8-mixed"
    assert report.parity.agreement == 1
    assert report.checkpoint_bytes == sum(4 * tensor.numel() for tensor in model("albert", TASKS[0]).parameters())
    assert "albert has no family file: traced with transformers' ONNX exporter" in capsys.readouterr().err
    assert open_bundle(tmp_path / "bundle").manifest.provenance["graph"] == "traced"
    verify_bundle(tmp_path / "bundle")
    assert load(tmp_path / "bundle")("质量很好").label in checkpoint.labels


def test_an_architecture_that_cannot_be_traced_is_refused_with_both_reasons() -> None:
    class Untraceable(torch.nn.Module):
        config = model("albert", TASKS[0]).config

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return input_ids.to(torch.float32) if int(input_ids.sum()) > 3 else attention_mask

    with pytest.raises(
        UnsupportedCheckpoint, match=r"no family file, and tracing it failed: \w+: .*; use a checkpoint"
    ):
        trace(Untraceable(), _wanted(TASKS[0]), "'odd' has no family file")


def test_an_architecture_that_nobody_knows_is_refused_with_both_reasons(tmp_path: Path) -> None:
    folder = edit_config(save(tmp_path / "odd", "albert", TASKS[0]), model_type="perceptron-9")
    with pytest.raises(
        UnsupportedCheckpoint, match=r"'perceptron-9' is not supported; .*, which have family files, and the enc"
    ):
        load_checkpoint(folder)
