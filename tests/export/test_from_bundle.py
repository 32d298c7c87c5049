"""A bundle turned back into a checkpoint: every tensor, every architecture, every way of storing weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from edgelm_export import families
from edgelm_export.families import Wanted
from edgelm_export.finetune import FinetuneOptions, finetune
from edgelm_export.finetune.base import load_base
from edgelm_export.finetune.from_bundle import _WAYS, bundle_of, write_checkpoint
from edgelm_export.quantize import scheme
from edgelm_export.quantize.ranges import Range
from edgelm_export.unbuild import StoredGraph
from edgelm_runtime.bundle import default_bundles, open_bundle
from edgelm_runtime.errors import BundleRejected, UnsupportedCheckpoint
from edgelm_runtime.loader import load
from edgelm_runtime.manifest import Manifest
from tests.export.rows import write_rows
from tests.export.tiny import AUTO, CONTEXT, ENCODERS, Tensors, encoder, gpt2

TINY = Path(__file__).parents[1] / "data" / "tiny-classifier" / "edgelm.json"


def turned_back(folder: Path, model: Any, task: str, used: Any) -> tuple[Any, dict[str, Any]]:
    """The model that comes back from the graph of a torch model, and its tensors."""
    kind, config = model.config.model_type, model.config.to_dict()
    wanted = Wanted(task, CONTEXT, ("mean",) if task == "feature-extraction" else ())
    graph = families.family(kind).build(Tensors(model), config, used, wanted)
    (folder / "model.onnx").write_bytes(graph.graph)
    manifest = replace(Manifest.from_bytes(TINY.read_bytes()), task=task, family=kind)
    found, state = _WAYS[kind](StoredGraph.read(folder / "model.onnx"), SimpleNamespace(manifest=manifest))
    found.pop("architectures")
    kept = {name: config[name] for name in ("pad_token_id", "bos_token_id", "eos_token_id") if name in config}
    again = AutoConfig.for_model(kind, **{**found, **kept}, id2label=model.config.id2label)
    other = type(model)(again).eval()
    tensors = {name: torch.tensor(np.ascontiguousarray(array)) for name, array in state.items()}
    missing, unexpected = other.load_state_dict(tensors, strict=False)
    assert unexpected == []
    assert all("pooler" in name or name.endswith(("position_ids", "lm_head.weight")) for name in missing)
    other.tie_weights()
    return other, state


@pytest.mark.parametrize("task", AUTO)
@pytest.mark.parametrize("kind", ENCODERS)
def test_every_encoder_comes_back(tmp_path: Path, kind: str, task: str) -> None:
    model = encoder(kind, task, **({"pad_token_id": 0} if kind == "bert" else {}))
    other, _ = turned_back(tmp_path, model, task, scheme("fp32"))
    ids = torch.randint(5, 500, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        name = "last_hidden_state" if task == "feature-extraction" else "logits"
        torch.testing.assert_close(other(ids)[name], model(ids)[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["fp32", "int8", "int8-mixed", "int8-folded", "int8-blocks", "int4-64", "int4-hqq"])
def test_every_scheme_comes_back_but_for_its_rounding(tmp_path: Path, name: str) -> None:
    model = encoder("bert", pad_token_id=0)
    draw = np.random.default_rng(0)
    layers = [n.removesuffix(".weight") for n, p in model.named_parameters() if p.ndim == 2 and n.endswith(".weight")]
    ranges = {}
    for layer in layers:
        rows = draw.normal(size=(16, model.get_submodule(layer).weight.shape[1])).astype(np.float32)
        rows[:, :3] *= 40  # outliers, to be taken apart or levelled
        ranges[layer] = Range.of(rows)
    _, state = turned_back(tmp_path, model, "text-classification", scheme(name, ranges))
    graph = StoredGraph.read(tmp_path / "model.onnx")
    if name in ("int8-mixed", "int8-folded"):
        assert any(found.endswith((".apart", ".level")) for found in graph.arrays)
    steps = {"fp32": 1e-6, "int4-64": 0.2, "int4-hqq": 0.2}.get(name, 0.012)
    for stored, tensor in model.state_dict().items():
        if stored in state and "embeddings" not in stored:
            largest = float(tensor.abs().max())
            assert np.abs(state[stored] - tensor.numpy()).max() <= steps * largest, stored


def test_gpt2_comes_back(tmp_path: Path) -> None:
    model = gpt2()
    other, _ = turned_back(tmp_path, model, "text-generation", scheme("fp32"))
    ids = torch.randint(5, 500, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(other(ids).logits, model(ids).logits, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("name", "kind"), [("sentiment-en", "sequence-classification"), ("writer", "causal")])
def test_a_default_bundle_is_a_base_that_answers_as_it_does(name: str, kind: str) -> None:
    labels = open_bundle(default_bundles()[name], verify="lazy").manifest.labels
    base = load_base(name, kind, (), labels[::-1], None)
    assert "what rounding to int8 took" in base.notes[0]
    assert "its licence:" in base.notes[0]
    assert float(base.notes[1].split("at most ")[1].split()[0]) < 0.05
    if labels:  # the order of the bundle's classes is kept, and with it the meaning of its head
        assert list(base.model.config.id2label.values()) == list(labels)
        model = load(name)
        ids = base.tokenizer("Broke after two days.")["input_ids"]
        assert ids == model.tokenize("Broke after two days.")
        with torch.inference_mode():
            best = base.model(torch.tensor([ids])).logits.argmax().item()
        assert base.model.config.id2label[best] == model("Broke after two days.").label == "negative"


def test_a_training_begins_with_the_bundle(tmp_path: Path) -> None:
    rows = [
        {"text": ("质量很好，喜欢", "质量很差，退货")[index % 2] + f" {index}", "label": 1 - index % 2}
        for index in range(60)
    ]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    options: dict[str, Any] = {"epochs": 0.2, "learning_rate": 1e-12, "dev_fraction": 0.5, "evaluations": 1}
    report = finetune(FinetuneOptions("sentiment", "sentiment-zh", (data,), tmp_path / "model", **options))
    assert report.metrics["accuracy"] == 100.0
    assert "started from the bundle sentiment-zh" in report.notes[0]
    other = finetune(
        FinetuneOptions("classify", "sentiment-zh", (write_rows(
            tmp_path / "topics.jsonl", [{**row, "label": "abc"[index % 3]} for index, row in enumerate(rows)]
        ),), tmp_path / "other", **options)
    )  # fmt: skip
    assert [one.label for one in other.outcome.classes.classes] == ["a", "b", "c"]  # type: ignore[union-attr]


def damaged(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")


def traced(folder: Path) -> None:
    path = folder / "edgelm.json"
    path.write_text(path.read_text("utf-8").replace('"provenance": {', '"provenance": {"graph": "traced",'), "utf-8")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [(damaged, BundleRejected, "sha256"), (traced, UnsupportedCheckpoint, "cannot be turned back")],
)
def test_a_bundle_without_a_way_back_is_refused(
    tmp_path: Path, change: Callable[[Path], None], error: type[Exception], message: str
) -> None:
    shutil.copytree(default_bundles()["sentiment-zh"], tmp_path / "bundle")
    change(tmp_path / "bundle")
    (tmp_path / "out").mkdir()
    with pytest.raises(error, match=message):
        write_checkpoint(tmp_path / "bundle", tmp_path / "out")


def test_what_is_a_bundle(tmp_path: Path) -> None:
    assert bundle_of("sentiment-zh") == default_bundles()["sentiment-zh"]
    assert bundle_of(str(default_bundles()["writer"])) == default_bundles()["writer"]
    assert bundle_of(str(tmp_path)) is None
    assert bundle_of("tiny-bert") is None
