"""Every task of an encoder, from a checkpoint to an answer, against transformers on the same text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner
from transformers import AutoTokenizer, BertConfig

from edgelm.cli import cli
from edgelm_export.pipeline import ExportOptions, ExportReport, export
from edgelm_runtime.errors import InputError, UnsupportedCheckpoint
from edgelm_runtime.loader import load
from edgelm_runtime.manifest import MULTI_LABEL, REGRESSION, Manifest
from edgelm_runtime.verify import verify_bundle
from tests.export.rows import write_rows
from tests.export.tiny import CONTEXT, TEXTS, randomized, save_bert

TEXT = "The zipper broke after two days, 物流很快 though."
TAGS = {0: "O", 1: "B-PART", 2: "I-PART", 3: "B-TIME", 4: "I-TIME"}


def checkpoint(folder: Path, kind: str, **config: Any) -> tuple[Path, Any]:
    """A tiny random BERT with the head of a transformers class, and the folder where it is saved."""
    shape = {
        "vocab_size": 600, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 128, "max_position_embeddings": CONTEXT, "pad_token_id": 0,
    }  # fmt: skip
    model = randomized(getattr(transformers, kind)(BertConfig(**{**shape, **config})), 0, 0.1)
    return save_bert(folder / "checkpoint", model), model


def made(folder: Path, source: Path, **options: Any) -> tuple[Any, Manifest, ExportReport]:
    """The bundle of a checkpoint in float32, loaded, with its manifest and the report."""
    options = {"precision": "fp32", "languages": ("en", "zh"), **options}
    report = export(ExportOptions(source, folder / "bundle", **options))
    model = load(folder / "bundle")
    assert verify_bundle(folder / "bundle").golden >= 1
    return model, model.bundle.manifest, report


def torch_output(source: Path, model: Any, *texts: str) -> Any:
    """What torch gives for a text or a pair, tokenized by transformers."""
    with torch.inference_mode():
        return model(**AutoTokenizer.from_pretrained(source)(*texts, return_tensors="pt"))


def test_tokens_are_tagged_as_the_pipeline_of_transformers_does(tmp_path: Path) -> None:
    source, model = checkpoint(tmp_path, "BertForTokenClassification", id2label=TAGS)
    tagger, manifest, report = made(tmp_path, source)
    assert (manifest.task, manifest.serves, manifest.labels) == ("token-classification", ("tag",), tuple(TAGS.values()))
    assert report.parity.agreement == 1.0
    tokenizer = AutoTokenizer.from_pretrained(source)
    pipeline = transformers.pipeline("token-classification", model, tokenizer=tokenizer, aggregation_strategy="simple")
    for text in (TEXT, *TEXTS[:6]):
        found = [(one.label, one.start, one.end) for one in tagger(text).entities]
        expected = pipeline(text)
        assert found == [(one["entity_group"], one["start"], one["end"]) for one in expected]
        scores = [one.score for one in tagger(text).entities]
        np.testing.assert_allclose(scores, [one["score"] for one in expected], atol=1e-4)


def test_any_number_of_labels(tmp_path: Path) -> None:
    labels = {0: "late", 1: "broken", 2: "fine"}
    source, model = checkpoint(tmp_path, "BertForSequenceClassification", problem_type=MULTI_LABEL, id2label=labels)
    classifier, manifest, _ = made(tmp_path, source)
    assert (manifest.serves, manifest.problem_type) == (("classify",), MULTI_LABEL)
    expected = torch.sigmoid(torch_output(source, model, TEXT).logits[0]).numpy()
    np.testing.assert_allclose(list(classifier(TEXT).scores.values()), expected, atol=1e-4)
    assert classifier(TEXT).labels == tuple(np.array(manifest.labels)[expected >= 0.5])


def test_one_label_is_a_number(tmp_path: Path) -> None:
    source, model = checkpoint(tmp_path, "BertForSequenceClassification", num_labels=1, problem_type=REGRESSION)
    scorer, manifest, _ = made(tmp_path, source)
    assert manifest.problem_type == REGRESSION
    assert scorer(TEXT).scores["LABEL_0"] == pytest.approx(
        float(torch_output(source, model, TEXT).logits[0, 0]), abs=1e-4
    )
    shown = CliRunner().invoke(cli, ["run", "classify", TEXT, "--bundle", str(tmp_path / "bundle")])
    assert shown.stdout == f"LABEL_0  {scorer(TEXT).scores['LABEL_0']:.2f}\n"


def test_a_question_and_its_answer(tmp_path: Path) -> None:
    source, model = checkpoint(tmp_path, "BertForSequenceClassification", id2label={0: "no", 1: "yes"})
    classifier, manifest, _ = made(tmp_path, source, pairs=True)
    assert (manifest.pairs, manifest.serves) == (True, ("classify",))
    question, answer = "Does it fit true to size?", "Soft fabric, true to size."
    expected = torch.softmax(torch_output(source, model, question, answer).logits[0], 0).numpy()
    np.testing.assert_allclose(list(classifier((question, answer)).scores.values()), expected, atol=1e-4)
    swapped = torch.softmax(torch_output(source, model, answer, question).logits[0], 0).numpy()
    np.testing.assert_allclose(list(classifier((answer, question)).scores.values()), swapped, atol=1e-4)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"text": question, "text_pair": answer}) + "\n", encoding="utf-8")
    command = ["run", "classify", "--bundle", str(tmp_path / "bundle"), "--json"]
    for given in (["--input", str(rows)], [question, "--pair", answer]):
        shown = CliRunner().invoke(cli, [*command, *given])
        assert json.loads(shown.stdout)["scores"]["yes"] == pytest.approx(float(expected[1]), abs=1e-4)


def test_the_body_of_any_head_gives_vectors(tmp_path: Path) -> None:
    source, model = checkpoint(tmp_path, "BertForMaskedLM")
    embedder, manifest, _ = made(tmp_path, source, task="embed")
    assert (manifest.task, manifest.serves, manifest.labels) == ("feature-extraction", ("embed",), ())
    rows = torch_output(source, model.bert, TEXT).last_hidden_state[0]
    np.testing.assert_allclose(embedder(TEXT).embedding, rows.mean(dim=0).numpy(), atol=1e-4)
    shown = CliRunner().invoke(cli, ["run", "embed", TEXT, "--bundle", str(tmp_path / "bundle"), "--json"])
    assert len(json.loads(shown.stdout)["embedding"]) == 64


@pytest.mark.parametrize(
    ("kind", "fields", "options"),
    [
        ("BertForTokenClassification", {"id2label": TAGS}, {}),
        ("BertForSequenceClassification", {"problem_type": MULTI_LABEL, "num_labels": 3}, {}),
        ("BertForSequenceClassification", {"num_labels": 1}, {}),
        ("BertForSequenceClassification", {"num_labels": 2}, {"pairs": True}),
        ("BertModel", {}, {}),
    ],
    ids=["tag", "multi", "regression", "pairs", "embed"],
)
def test_each_is_exported_in_int8(tmp_path: Path, kind: str, fields: dict[str, Any], options: dict[str, Any]) -> None:
    source, _ = checkpoint(tmp_path, kind, **fields)
    _, _, report = made(tmp_path, source, precision="int8", targets=("cpu", "openvino"), **options)
    assert report.parity.agreement >= 0.95
    assert report.variants["qdq-int8"].agreement >= 0.9


def test_classes_that_are_no_sentiment_are_classified(tmp_path: Path) -> None:
    source, _ = checkpoint(tmp_path, "BertForSequenceClassification", id2label={0: "shoes", 1: "bags"})
    model, manifest, _ = made(tmp_path, source)
    assert manifest.serves == ("classify",)
    assert model("bag").labels[0] in ("shoes", "bags")


@pytest.mark.parametrize(
    ("kind", "fields", "options", "message"),
    [
        ("BertForTokenClassification", {"id2label": TAGS}, {"pairs": True}, "pairs of texts are read for text-class"),
        (
            "BertForTokenClassification",
            {"id2label": TAGS},
            {"task": "sentiment"},
            "asked for was 'text-classification'",
        ),
        ("BertForSequenceClassification", {"num_labels": 1}, {"task": "sentiment"}, "give --task classify"),
        ("BertForSequenceClassification", {"problem_type": "ranking"}, {}, "problem_type"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, kind: str, fields: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    problem = fields.pop("problem_type", None) if fields.get("problem_type") == "ranking" else None
    source, _ = checkpoint(tmp_path, kind, **fields)
    if problem:
        path = source / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "problem_type": problem}), "utf-8")
    with pytest.raises((InputError, UnsupportedCheckpoint), match=message):
        export(ExportOptions(source, tmp_path / "bundle", **options))
    assert not (tmp_path / "bundle").exists()


def evaluated(folder: Path, source: Path, rows: list[dict[str, Any]], **options: Any) -> ExportReport:
    """The report of an export with an evaluation file of these rows."""
    folder.mkdir(exist_ok=True)
    file = write_rows(folder / "dev.jsonl", rows)
    return export(ExportOptions(source, folder / "bundle", precision="fp32", eval_file=file, **options))


def test_labels_are_scored_by_their_f1(tmp_path: Path) -> None:
    labels = {0: "late", 1: "broken", 2: "fine"}
    source, model = checkpoint(tmp_path, "BertForSequenceClassification", problem_type=MULTI_LABEL, id2label=labels)
    found = torch_output(source, model, TEXT).logits[0] >= 0
    right = [labels[index] for index in range(3) if found[index]]
    others = [one for one in labels.values() if one not in right]
    rows = [{"text": TEXT, "labels": right}, {"text": TEXT, "labels": others}]
    report = evaluated(tmp_path, source, rows)
    assert report.metrics["torch"]["F1 of the labels"] == report.metrics["fp32"]["F1 of the labels"] == 50.0
    with pytest.raises(InputError, match="a list of some of late, broken, fine"):
        evaluated(tmp_path / "wrong", source, [{"text": TEXT, "labels": ["slow"]}])


def test_numbers_are_scored_by_their_distance(tmp_path: Path) -> None:
    source, model = checkpoint(tmp_path, "BertForSequenceClassification", num_labels=1)
    right = float(torch_output(source, model, TEXT).logits[0, 0])
    report = evaluated(tmp_path, source, [{"text": TEXT, "label": right + 1}, {"text": TEXT, "label": right - 2}])
    assert report.metrics["fp32"]["minus the absolute error"] == pytest.approx(-1.5, abs=1e-3)
    with pytest.raises(InputError, match="a number is needed"):
        evaluated(tmp_path / "wrong", source, [{"text": TEXT, "label": "good"}])


def test_entities_are_scored_by_their_f1(tmp_path: Path) -> None:
    source, model = checkpoint(tmp_path, "BertForTokenClassification", id2label=TAGS)
    tokenizer = AutoTokenizer.from_pretrained(source)
    pipeline = transformers.pipeline("token-classification", model, tokenizer=tokenizer, aggregation_strategy="simple")
    right = [{"label": one["entity_group"], "start": one["start"], "end": one["end"]} for one in pipeline(TEXT)]
    wrong = [{"label": "PART", "start": 0, "end": 1}]
    report = evaluated(tmp_path, source, [{"text": TEXT, "entities": right}, {"text": TEXT, "entities": wrong}])
    assert report.metrics["fp32"]["F1 of the entities"] == 50.0
    with pytest.raises(InputError, match="an object with label, start and end"):
        evaluated(tmp_path / "wrong", source, [{"text": TEXT, "entities": ["PART"]}])


def test_vectors_are_scored_by_the_order_of_their_similarities(tmp_path: Path) -> None:
    source, _ = checkpoint(tmp_path, "BertModel")
    first, _, _ = made(tmp_path / "first", source)
    texts = TEXTS[:6]
    vectors = first.vectors([TEXT, *texts])
    near = vectors[1:] @ vectors[0] / np.linalg.norm(vectors[1:], axis=1)
    rows = [{"text": TEXT, "text_pair": text, "score": float(score)} for text, score in zip(texts, near, strict=True)]
    report = evaluated(tmp_path / "second", source, rows)
    assert report.metrics["fp32"]["Spearman"] == pytest.approx(100.0)
    with pytest.raises(InputError, match="every row has the score"):
        evaluated(tmp_path / "third", source, rows[:1])
