"""Fine-tuning classifiers of one's own: classes, labels, pairs and entities, through export to an answer."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForTokenClassification

from edgelm_export.class_report import NONE
from edgelm_export.evaluate import evaluate
from edgelm_export.finetune import FinetuneOptions, FinetuneReport, finetune
from edgelm_export.finetune.base import train_bert_tokenizer, train_wordpiece_tokenizer
from edgelm_export.finetune.data import IGNORED
from edgelm_export.finetune.spans import tagged_rows
from edgelm_export.finetune.tag import Pieces
from edgelm_export.pipeline import ExportOptions, export
from edgelm_runtime.errors import InputError
from edgelm_runtime.loader import load
from edgelm_runtime.manifest import TokenizerSpec
from edgelm_runtime.tokenizer import TextTokenizer
from tests.export.rows import write_rows

TOPICS = {"delivery": ("late", "courier", "物流"), "quality": ("broken", "zipper", "质量"), "price": ("cheap", "价格")}
BRANDS, MATERIALS = ("Nikon", "Goretexia", "红星"), ("leather", "goretex", "cotton")


def trained(task: str, data: Path, out: Path, **given: Any) -> FinetuneReport:
    """A run of a few seconds."""
    settings: dict[str, Any] = {
        "base": "tiny", "vocab_size": 400, "epochs": 8.0, "batch_size": 8, "learning_rate": 2e-3,
        "dev_fraction": 0.25, "evaluations": 4, "max_tokens": 32,
    }  # fmt: skip
    return finetune(FinetuneOptions(task, data=(data,), out=out, **{**settings, **given}))


def topics(count: int) -> list[dict[str, Any]]:
    draw = random.Random(0)
    names = list(TOPICS)
    return [
        {"text": f"{draw.choice(TOPICS[names[index % 3]])} {draw.choice('abcdef')} {index}", "label": names[index % 3]}
        for index in range(count)
    ]


def products(count: int) -> list[dict[str, Any]]:
    """Texts with their entities, half of them as words and tags."""
    draw = random.Random(0)
    rows: list[dict[str, Any]] = []
    for index in range(count):
        brand, material = draw.choice(BRANDS), draw.choice(MATERIALS)
        words = ["the", brand, draw.choice(("bag", "shoes")), "of", material, str(index)]
        if index % 2:
            tags = ["O", "B-BRAND", "O", "O", "S-MATERIAL", "O"]
            rows.append({"tokens": words, "tags": tags})
        else:
            text, spans = " ".join(words) + ".", []
            for label, value in (("BRAND", brand), ("MATERIAL", material)):
                start = text.index(value)
                spans.append({"label": label, "start": start, "end": start + len(value)})
            rows.append({"text": text, "entities": spans})
    return rows


def test_classes_of_ones_own(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", topics(120))
    report = trained("classify", data, tmp_path / "model")
    assert report.metrics["accuracy"] > 85
    told = json.loads((tmp_path / "model" / "finetune.json").read_text("utf-8"))
    assert told == report.to_dict()
    assert [one["label"] for one in told["classes"]] == told["confusion"]["labels"] == sorted(TOPICS)
    assert (
        sum(one["support"] for one in told["classes"]) == report.dev_rows == sum(map(sum, told["confusion"]["matrix"]))
    )
    assert "precision  recall  F1" in report.table()
    assert "right answer \\ answered" in report.table()
    assert all(warning in report.table() for warning in report.outcome.warnings)
    export(ExportOptions(tmp_path / "model", tmp_path / "bundle", precision="fp32"))
    assert load(tmp_path / "bundle")("the courier was late").labels == ("delivery",)


def test_any_number_of_labels(tmp_path: Path) -> None:
    rows = topics(120)
    mixed = [
        {"text": f"{a['text']} {b['text']}" if index % 2 else a["text"],
         "labels": sorted({a["label"], b["label"]}) if index % 2 else [a["label"]]}
        for index, (a, b) in enumerate(zip(rows, rows[40:] + rows[:40], strict=True))
    ]  # fmt: skip
    mixed += [{"text": f"nothing at all {index}", "labels": []} for index in range(30)]
    report = trained("classify", write_rows(tmp_path / "rows.jsonl", mixed), tmp_path / "model", epochs=10.0)
    assert report.metrics["f1"] > 80
    assert AutoConfig.from_pretrained(tmp_path / "model").problem_type == "multi_label_classification"
    assert [one.label for one in report.outcome.classes.classes] == sorted(TOPICS)  # type: ignore[union-attr]


def test_pairs_are_told_apart(tmp_path: Path) -> None:
    """The label is which of the two texts says "late"."""
    rows = [
        {"text": ("late", "fine")[index % 2] + f" {index}", "text_pair": ("fine", "late")[index % 2],
         "label": ("first", "second")[index % 2]}
        for index in range(80)
    ]  # fmt: skip
    report = trained("classify", write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "model")
    assert report.metrics["accuracy"] > 85
    data = write_rows(tmp_path / "more.jsonl", [*rows, {"text": "x", "label": "first"}])
    with pytest.raises(InputError, match="80 of 81 rows have text_pair"):
        trained("classify", data, tmp_path / "other", dev=data)


def test_a_model_that_learned_nothing_says_so(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", topics(60))
    report = trained("sentiment", data, tmp_path / "model", dev=data, learning_rate=1e-9, epochs=0.5)
    said = " ".join(report.outcome.warnings)
    assert "every answer is" in said or "never answered" in said
    assert "the development rows are training rows" in said
    assert "fewer than 30 training rows of a class: 'delivery' (20)" in said


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a tagger that was trained on products."""
    folder = tmp_path_factory.mktemp("tagger")
    report = trained("tag", write_rows(folder / "rows.jsonl", products(160)), folder / "model", epochs=12.0)
    assert report.metrics["f1"] > 85
    assert report.aggregation == "first"
    assert {one.label for one in report.outcome.classes.classes} == {"BRAND", "MATERIAL"}  # type: ignore[union-attr]
    config = AutoModelForTokenClassification.from_pretrained(folder / "model").config
    assert list(config.id2label.values()) == ["O", "B-BRAND", "I-BRAND", "B-MATERIAL", "I-MATERIAL"]
    export(ExportOptions(folder / "model", folder / "bundle", precision="fp32"))
    return folder / "bundle"


def test_entities_are_whole_words(tagger: Path) -> None:
    model = load(tagger)
    assert model.aggregation == "first"
    found = [(one.label, one.text) for one in model("the Nikon bag of goretex 500").entities]
    assert found == [("BRAND", "Nikon"), ("MATERIAL", "goretex")]
    assert model(["the", "Nikon", "bag", "of", "goretex", "500"]).entities[1].text == "goretex"


def test_a_bundle_is_evaluated_on_both_kinds_of_rows(tagger: Path, tmp_path: Path) -> None:
    rows = products(8)
    rows[0]["entities"][0]["label"] = "UNKNOWN"
    report = evaluate(tagger, write_rows(tmp_path / "rows.jsonl", [*rows, {"text": "no entities named"}]))
    assert report.rows == 8
    assert report.metrics["f1"] > 75
    assert report.classes is not None
    assert report.classes.labels == ("BRAND", "MATERIAL", "UNKNOWN", NONE)
    assert report.worst[0].place.endswith("line 1")
    assert "'UNKNOWN'" in " ".join(report.warnings)


def pieces(made: Any, labels: tuple[str, ...] = ("O", "B-X", "I-X")) -> Pieces:
    tokenizer = made(["the goretex shoes of goretex", "leathery"] * 4, 60, 16)
    data = tokenizer.backend_tokenizer.to_str().encode()
    return Pieces(TextTokenizer(data, TokenizerSpec("tokenizer.json", 16)), labels)


def test_first_pieces_are_labelled_and_the_others_ignored() -> None:
    """Where the vocabulary marks the others; else all are."""
    row = {"text": "a goretexes shoe, the", "entities": [{"label": "X", "start": 2, "end": 16}]}
    for made, aggregation in ((train_wordpiece_tokenizer, "first"), (train_bert_tokenizer, "simple")):
        reader = pieces(made)
        (tagged,) = tagged_rows([row])
        assert reader.aggregation == aggregation
        (encoded,) = reader.encoded(tagged)
        parts, subwords = reader.read(tagged)
        found = list(zip(encoded["labels"][1:-1], parts.starts, subwords, strict=True))
        assert encoded["labels"][0] == encoded["labels"][-1] == IGNORED
        for label, start, subword in found:
            if aggregation == "first" and subword:
                assert label == IGNORED
            else:
                assert label == (0 if not 2 <= start < 16 else 1 if start == 2 else 2), (start, found)
        assert aggregation == "simple" or any(subword for *_, subword in found)
        assert reader.split(tagged) == 0


def test_a_long_text_is_learned_in_windows() -> None:
    reader = pieces(train_wordpiece_tokenizer)
    text = "the goretex " * 20
    spans = [{"label": "X", "start": start + 4, "end": start + 11} for start in range(0, len(text), 12)]
    windows = list(reader.encoded(tagged_rows([{"text": text, "entities": spans}])[0]))
    assert len(windows) > 1
    assert all(len(one["input_ids"]) <= 16 and 1 in one["labels"] for one in windows)


def test_an_entity_inside_a_word_is_counted() -> None:
    reader = pieces(train_wordpiece_tokenizer)
    (row,) = tagged_rows([{"text": "the goretex", "spans": [[4, 8, "X"]]}])
    assert reader.split(row) == 1


def test_rows_of_entities_have_several_forms() -> None:
    rows = tagged_rows([
        {"text": " Nike shoes", "entities": [{"label": "B", "start": 0, "end": 6}]},
        {"text": "Nike shoes", "spans": [[0, 4, "B"]]},
        {"tokens": ["Nike", "Air", "shoes"], "ner_tags": ["B-B", "E-B", "O"]},
        {"tokens": list("买红星"), "tags": ["O", "B-B", "E-B"]},
        {"text": "nothing", "entities": []},
    ])  # fmt: skip
    assert [row.spans for row in rows] == [
        (("B", 1, 5),), (("B", 0, 4),), (("B", 0, 8),), (("B", 1, 3),), (),
    ]  # fmt: skip
    assert [row.text for row in rows[2:4]] == ["Nike Air shoes", "买红星"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, "text and entities, or tokens and tags; found text"),
        ({"text": " ", "entities": []}, "the fields needed are"),
        ({"text": "abc", "entities": [{"label": "X", "start": 2, "end": 9}]}, "within the text's 3"),
        ({"text": "abc", "entities": [{"label": "X", "start": 2, "end": 2}]}, "label, start and end is needed"),
        ({"text": "abc", "entities": [{"label": "", "start": 0, "end": 2}]}, "label, start and end is needed"),
        ({"text": "abc", "entities": "X"}, "label, start and end is needed"),
        ({"text": "abc", "entities": [[0, 2, "X"], [1, 3, "Y"]]}, "entities overlap"),
        ({"tokens": ["a", "b"], "tags": ["O"]}, "2 tokens and 1 tags"),
        ({"tokens": ["a"], "ner_tags": [3]}, "names such as B-BRAND are needed"),
        ({"tokens": "a b", "tags": ["O", "O"]}, "row 1: tokens is str"),
        ({"tokens": [" "], "tags": ["O"]}, "tokens are blank"),
    ],
)
def test_rows_that_cannot_be_used_are_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tagged_rows([row])


@pytest.mark.parametrize(
    ("task", "rows", "dev", "message"),
    [
        ("tag", [{"text": "a", "entities": []}] * 2, None, "no training row has an entity"),
        (
            "tag", [{"text": "ab", "entities": [[0, 1, "X"]]}], [{"text": "ab", "entities": [[0, 1, "Y"]]}],
            "entities 'Y' of the development rows",
        ),
        ("classify", [{"text": "a", "labels": []}], None, "no training row has a label"),
        ("classify", [{"text": "a", "labels": ["x"]}], [{"text": "a", "labels": ["y"]}], "labels 'y' of the dev"),
        ("classify", [{"text": "a", "labels": "x;y"}], None, "a list of names is needed"),
        ("classify", [{"text": "a", "label": "x"}], None, "one class only"),
    ],
)  # fmt: skip
def test_data_without_anything_to_learn_is_refused(
    tmp_path: Path, task: str, rows: list[dict[str, Any]], dev: list[dict[str, Any]] | None, message: str
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(InputError, match=message):
        trained(task, data, tmp_path / "out", dev=write_rows(tmp_path / "dev.jsonl", dev or rows))
    assert not (tmp_path / "out").exists()
