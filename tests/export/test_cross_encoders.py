"""Rerankers and other classifiers of pairs: their scores are what CrossEncoder.predict gives."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder
from sentence_transformers.base import modules as base
from sentence_transformers.cross_encoder import modules as cross
from sentence_transformers.sentence_transformer import modules

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.sources import Origin
from edgelm_export.doctor import diagnose
from edgelm_export.families import POOLINGS
from edgelm_export.pipeline import ExportOptions, export
from edgelm_runtime.bundle import open_bundle, write_bundle
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.loader import load
from tests.export import graphs
from tests.export.tiny import bert, edit_config, save_bert

PAIRS = [("does it shrink", "i washed it twice and it still fits"), ("red shoes", "蓝色手机"), ("late", "it was late")]
IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"


def classifier(folder: Path, labels: int = 1, **config: Any) -> Path:
    """A classifier with a head of its own, and these fields in config.json."""
    names = {index: f"LABEL_{index}" for index in range(labels)}
    return edit_config(save_bert(folder, bert(num_labels=labels, id2label=names, label2id=None)), **config)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, bool], Path]:
    """Float32 bundles with and without pairs, and beside each the classifier that it is of, in the folder "of"."""
    root, made = tmp_path_factory.mktemp("exported"), {}
    for labels, pairs in ((1, True), (3, True), (1, False), (3, False)):
        made[labels, pairs] = root / f"{labels}-{pairs}" / "bundle"
        folder = classifier(made[labels, pairs].parent / "of", labels)
        task = {"task": None if pairs else "classify"}
        export(ExportOptions(folder, made[labels, pairs], pairs=pairs, precision="fp32", **task))
    return made


def like(exported: Path, folder: Path, config: dict[str, Any]) -> Path:
    """The classifier of a bundle, with these fields in config.json: they leave its graph alone."""
    return edit_config(Path(shutil.copytree(exported.parent / "of", folder)), **config)


def answering(folder: Path, exported: Path, out: Path, *, pairs: bool) -> Any:
    """The model of a bundle of ``folder``, whose graph another export wrote."""
    checkpoint, base = load_checkpoint(folder, pairs=pairs), open_bundle(exported)
    said = {"function_to_apply": checkpoint.function_to_apply, "problem_type": checkpoint.problem_type}
    contents = {name: base.read(name) for name in base.manifest.files}
    return load(write_bundle(out, replace(base.manifest, **said), contents).path, task="classify")


def scores_of(model: Any) -> Any:
    """The scores of the pairs, [pairs, labels] or [pairs]."""
    scores = np.array([list(model(pair).scores.values()) for pair in PAIRS])
    return scores[:, 0] if scores.shape[1] == 1 else scores


MARKED: dict[str, tuple[int, dict[str, Any]]] = {
    "unset": (1, {}),
    "sigmoid": (1, {"sentence_transformers": {"activation_fn": SIGMOID, "version": "5.0.0"}}),
    "identity": (1, {"sentence_transformers": {"activation_fn": IDENTITY, "version": "5.0.0"}}),
    "old sigmoid": (1, {"sbert_ce_default_activation_function": SIGMOID}),
    "old identity": (1, {"sbert_ce_default_activation_function": IDENTITY}),
    "both": (
        1,
        {"sentence_transformers": {"activation_fn": IDENTITY}, "sbert_ce_default_activation_function": SIGMOID},
    ),
    "of no activation": (1, {"sentence_transformers": {"version": "4.1.0"}}),
    "of a regression": (1, {"sentence_transformers": {"version": "4.1.0"}, "problem_type": "regression"}),
    "three": (3, {"sentence_transformers": {"activation_fn": IDENTITY, "version": "5.0.0"}}),
    "three, of no activation": (3, {"sentence_transformers": {"version": "5.0.0"}}),
    "three by sigmoid": (3, {"sbert_ce_default_activation_function": SIGMOID}),
}


@pytest.mark.parametrize("case", MARKED)
def test_scores_are_those_of_cross_encoder(tmp_path: Path, exported: dict[Any, Path], case: str) -> None:
    labels, config = MARKED[case]
    folder = like(exported[labels, True], tmp_path / "model", config)
    expected = CrossEncoder(str(folder), device="cpu").predict(PAIRS)
    model = answering(folder, exported[labels, True], tmp_path / "bundle", pairs=True)
    np.testing.assert_allclose(scores_of(model), expected, rtol=0, atol=1e-4)
    if labels == 3:  # a raw score names the most probable class as well
        assert [model(pair).labels for pair in PAIRS] == [(f"LABEL_{best}",) for best in expected.argmax(1)]


@pytest.mark.parametrize(
    ("labels", "config", "function"),
    [
        (1, {}, "sigmoid"),
        (1, {"problem_type": "regression"}, ""),
        (1, {"problem_type": "multi_label_classification"}, ""),
        (3, {}, ""),
        (3, {"problem_type": "regression"}, ""),
        (3, {"sentence_transformers": {"activation_fn": IDENTITY}}, ""),
    ],
)
def test_one_text_has_the_scores_of_transformers_pipeline(
    tmp_path: Path, exported: dict[Any, Path], labels: int, config: dict[str, Any], function: str
) -> None:
    folder = like(exported[labels, False], tmp_path / "model", config)
    model = answering(folder, exported[labels, False], tmp_path / "bundle", pairs=False)
    assert model.bundle.manifest.function_to_apply == function
    pipeline = transformers.pipeline("text-classification", str(folder), top_k=None)
    for text, _ in PAIRS:
        expected = {one["label"]: one["score"] for one in pipeline([text])[0]}
        assert model(text).scores == pytest.approx(expected, abs=1e-4)


def test_a_folder_of_modules_reads_pairs_unasked(tmp_path: Path) -> None:
    model = CrossEncoder(str(classifier(tmp_path / "base")), device="cpu", activation_fn=torch.nn.Identity())
    model.save(str(tmp_path / "model"))
    export(ExportOptions(tmp_path / "model", tmp_path / "bundle", precision="fp32"))
    assert open_bundle(tmp_path / "bundle").manifest.pairs
    expected = CrossEncoder(str(tmp_path / "model"), device="cpu").predict(PAIRS)
    np.testing.assert_allclose(scores_of(load(tmp_path / "bundle")), expected, rtol=0, atol=1e-4)
    (task,) = [found.text for found in diagnose(Origin(tmp_path / "model")).findings if found.check == "task"]
    assert task == "text-classification of two texts, a CrossEncoder's"


def scored(folder: Path, body: Path, labels: int, pooling: Any, *between: Any, **options: Any) -> CrossEncoder:
    """A CrossEncoder whose scores are those of a linear layer on a pooled vector, of 64 numbers at last."""
    torch.manual_seed(0)
    head = base.Dense(64, labels, activation_function=None, module_output_name="scores")
    after = (modules.Pooling(64, pooling), *between, head)
    CrossEncoder(modules=[base.Transformer(str(body)), *after], device="cpu", **options).save(str(folder))
    return CrossEncoder(str(folder), device="cpu")


@pytest.mark.parametrize(("labels", "traced"), [(3, False), (1, True)])
def test_scores_of_a_layer_after_pooling(tmp_path: Path, labels: int, traced: bool) -> None:
    body = graphs.model("albert", "feature-extraction", hidden_size=64, spread=0.05) if traced else bert().bert
    save_bert(tmp_path / "body", body)
    between = modules.LayerNorm(384), base.Dense(384, 64, activation_function=torch.nn.GELU(), use_residual=True)
    expected = scored(tmp_path / "model", tmp_path / "body", labels, POOLINGS, *between).predict(PAIRS)
    export(ExportOptions(tmp_path / "model", tmp_path / "bundle", precision="fp32"))
    np.testing.assert_allclose(scores_of(load(tmp_path / "bundle")), expected, rtol=0, atol=1e-4)
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert (manifest.task, manifest.pairs, len(manifest.labels)) == ("text-classification", True, labels)


def test_what_is_not_honoured_of_a_cross_encoder_is_refused_by_name(tmp_path: Path) -> None:
    save_bert(tmp_path / "body", bert().bert)
    scored(tmp_path / "model", tmp_path / "body", 1, "mean", prompts={"query": "q: "}, default_prompt_name="query")
    with pytest.raises(UnsupportedCheckpoint, match=r"default_prompt_name = 'query' .* null for a CrossEncoder"):
        load_checkpoint(tmp_path / "model")
    body = base.Transformer(str(tmp_path / "body"))
    CrossEncoder(modules=[body, cross.LogitScore(3, 4)], device="cpu").save(str(tmp_path / "logits"))
    with pytest.raises(UnsupportedCheckpoint, match="the module LogitScore is not honoured in this place"):
        load_checkpoint(tmp_path / "logits")
    other = classifier(tmp_path / "other", sbert_ce_default_activation_function="torch.nn.modules.activation.ELU")
    with pytest.raises(UnsupportedCheckpoint, match=r"ELU' is not honoured .* Identity, Sigmoid, Softmax"):
        load_checkpoint(other, pairs=True)


def test_a_diagnosis_says_that_config_json_is_of_a_cross_encoder(tmp_path: Path) -> None:
    folder = classifier(tmp_path / "model", sbert_ce_default_activation_function=SIGMOID)
    (task,) = [found for found in diagnose(Origin(folder)).findings if found.check == "task"]
    assert (task.state, "which reads two texts: give --pairs for its scores" in task.text) == ("note", True)
