"""Two bundles, or a bundle and its checkpoint, side by side."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy.stats import spearmanr
from transformers import pipeline

from edgelm.cli import cli
from edgelm_export import compare as compare_module
from edgelm_export.compare import compare
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.significance import mcnemar_exact
from edgelm_export.texts import REVIEWS
from edgelm_runtime.errors import BundleNotFound, InputError, UnsupportedCheckpoint
from edgelm_runtime.loader import load
from tests.export import seq2seq
from tests.export.rows import write_rows
from tests.export.tiny import bert, save_bert

PAIRS = [
    {"text": "It works well. I like it.", "summary": "works well"},
    {"text": "物流很快。质量也好。", "summary": "物流很快"},
    {"text": "The box is red. It came late.", "summary": "The box is red."},
    {"text": "包装破了，客服一直不回复。", "summary": "包装破了"},
    {"attributes": "类型#裙*颜色#白色", "description": "白色的裙"},
]


@pytest.fixture(scope="module")
def bundles(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A classifier in int8, and another one of the same shape and tokenizer in float32."""
    folder = tmp_path_factory.mktemp("bundles")
    save_bert(folder / "checkpoint", bert(seed=5, spread=0.1))
    export(ExportOptions(bert_folder, folder / "int8"))
    export(ExportOptions(folder / "checkpoint", folder / "other", precision="fp32"))
    return folder / "int8", folder / "other"


@pytest.fixture(scope="module")
def writer(gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A generator's checkpoint and bundle, of short answers."""
    folder = tmp_path_factory.mktemp("writer")
    checkpoint = Path(shutil.copytree(gpt2_folder, folder / "checkpoint"))
    (checkpoint / "generation_config.json").write_text(json.dumps({"max_new_tokens": 8}), "utf-8")
    export(ExportOptions(checkpoint, folder / "bundle"))
    return checkpoint, folder / "bundle"


@pytest.fixture
def rows(bundles: tuple[Path, Path], tmp_path: Path) -> Path:
    """Reviews, half of them with the label that the first bundle gives."""
    model, texts = load(bundles[0]), [*REVIEWS["zh"], *REVIEWS["en"], "很好。" * 100]
    answers = [model(text).label for text in texts]
    turned = {"negative": "positive", "positive": "negative"}
    labels = [answer if number % 2 else turned[answer] for number, answer in enumerate(answers)]
    data = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    return write_rows(tmp_path / "dev.jsonl", data)


def _command(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["compare", *map(str, arguments)], prog_name="edgelm")


def test_two_bundles_are_compared_row_by_row(bundles: tuple[Path, Path], rows: Path) -> None:
    data = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
    answers = [[load(bundle)(row["text"]).label for row in data] for bundle in bundles]
    right = [[answer == row["label"] for answer, row in zip(mine, data, strict=True)] for mine in answers]
    lost = sum(a and not b for a, b in zip(*right, strict=True))
    won = sum(b and not a for a, b in zip(*right, strict=True))
    assert lost + won > 0

    found = compare(*bundles, rows)
    assert (found.rows, found.worse, found.better) == (41, lost, won)
    (difference,) = found.differences
    assert difference.before == pytest.approx(100 * sum(right[0]) / 41)
    assert difference.difference == pytest.approx(100 * (won - lost) / 41)
    assert difference.p == mcnemar_exact(lost, won)
    assert found.agreement == pytest.approx(1 - (lost + won) / 41)
    assert [change.score_b - change.score_a for change in found.changes] == [-100.0] * lost + [100.0] * won
    assert found.bytes[0] < found.bytes[1]
    assert all(speed.load_ms > 0 and speed.answer_ms > 0 for speed in found.speeds)
    table = found.table()
    assert f"B is worse on {lost}, better on {won}, different and equally good on 0." in table
    assert table.count("expected") == min(lost + won, compare_module.SHOWN)

    back = compare(bundles[1], bundles[0], rows)
    assert (back.worse, back.better) == (won, lost)


def test_a_bundle_beside_its_checkpoint(bundles: tuple[Path, Path], bert_folder: Path, rows: Path) -> None:
    found = compare(bert_folder, bundles[0], rows)
    assert found.names == (f"{bert_folder} (torch)", str(bundles[0]))
    assert found.agreement > 0.9
    assert found.bytes[0] == (bert_folder / "model.safetensors").stat().st_size
    assert found.metrics[1]["accuracy"] == pytest.approx(100 * 20 / 41)
    assert all(speed.load_ms > 0 and speed.answer_ms > 0 for speed in found.speeds)


def test_torch_reads_texts_by_its_own_tokenizer(bert_folder: Path, tmp_path: Path) -> None:
    export(ExportOptions(bert_folder, tmp_path / "bundle", precision="fp32", special_tokens="text"))
    texts = [*REVIEWS["en"][:7], *(f"{one} [SEP] {one}" for one in REVIEWS["en"][7:10])]
    data = [{"text": text, "label": index % 2} for index, text in enumerate(texts)]
    found = compare(bert_folder, tmp_path / "bundle", write_rows(tmp_path / "dev.jsonl", data))
    assert found.read_otherwise == texts[7:]
    own, model = pipeline("text-classification", model=str(bert_folder)), load(tmp_path / "bundle")
    right = [own(row["text"])[0]["label"] == ("negative", "positive")[row["label"]] for row in data]
    assert found.metrics[0]["accuracy"] == pytest.approx(100 * sum(right) / len(right))
    assert model(texts[8]).scores != pytest.approx(load(tmp_path / "bundle", special_tokens="parse")(texts[8]).scores)
    assert found.text_parity is not None
    assert found.text_parity.same < found.text_parity.texts
    shown = found.table()
    assert "3 rows are read as other tokens than by transformers, such as" in shown
    assert "NONE: other tokens are read" in shown


def test_a_writer_beside_its_checkpoint(writer: tuple[Path, Path], tmp_path: Path) -> None:
    long = {"text": "包装破了。" * 400, "summary": "包装破了"}
    result = _command(*writer, "--eval", write_rows(tmp_path / "dev.jsonl", [*PAIRS, long]), "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["rows"] == 5
    assert [one["metric"] for one in found["differences"]] == ["summary en ROUGE-L", "summary zh ROUGE-L"]
    assert all(one["test"] in ("McNemar, exact", "paired permutation") for one in found["differences"])
    assert found["worse"] + found["better"] <= len(found["changes"]) <= 5


def test_the_command_prints_a_table(bundles: tuple[Path, Path], rows: Path) -> None:
    result = _command(*bundles, "--eval", rows)
    assert (result.exit_code, result.stderr) == (0, "")
    for expected in ("size, MB", "load, ms", "one answer, ms", "accuracy", "McNemar", "the same answer on"):
        assert expected in result.stdout


def test_vectors_are_compared_by_their_rank_correlation(tmp_path: Path) -> None:
    source = save_bert(tmp_path / "checkpoint", bert(spread=0.1))
    export(ExportOptions(source, tmp_path / "bundle", task="embed"))
    texts, draw = [*REVIEWS["en"], *REVIEWS["zh"]], np.random.default_rng(0)
    data = [
        {"text": one, "text_pair": other, "score": int(draw.integers(5))} for one, other in itertools.pairwise(texts)
    ]
    found = compare(source, tmp_path / "bundle", write_rows(tmp_path / "dev.jsonl", data))
    model = load(tmp_path / "bundle")
    vectors = np.array([model(text).embedding for text in texts])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = spearmanr([row["score"] for row in data], (vectors[:-1] * vectors[1:]).sum(axis=1)).statistic
    (difference,) = found.differences
    assert (difference.metric, difference.rows, difference.test) == ("Spearman", 39, "paired permutation")
    assert difference.after == pytest.approx(100 * expected)
    assert difference.after == pytest.approx(found.metrics[1]["Spearman"])
    assert abs(difference.difference) < 5
    assert all(speed.answer_ms > 0 for speed in found.speeds)


def test_pairs_are_compared_as_pairs(tmp_path: Path) -> None:
    source = save_bert(tmp_path / "checkpoint", bert(spread=0.1))
    export(ExportOptions(source, tmp_path / "bundle", pairs=True))
    texts = REVIEWS["en"]
    data = [
        {"text": one, "text_pair": other, "label": index % 2}
        for index, (one, other) in enumerate(itertools.pairwise(texts))
    ]
    found = compare(tmp_path / "bundle", source, write_rows(tmp_path / "dev.jsonl", data))
    assert found.rows == 19
    assert found.agreement > 0.8
    assert all(speed.answer_ms > 0 for speed in found.speeds)


def test_a_model_that_reads_and_writes_is_compared(tmp_path: Path) -> None:
    source = seq2seq.save(tmp_path / "t5", seq2seq.seq2seq("t5"), {"max_length": 12})
    export(ExportOptions(source, tmp_path / "bundle", prompts={"summary": "summarize: {text}"}))
    found = compare(source, tmp_path / "bundle", write_rows(tmp_path / "dev.jsonl", PAIRS[:4]))
    assert found.rows == 4
    assert {one.metric for one in found.differences} == {"summary en ROUGE-L", "summary zh ROUGE-L"}
    assert all(speed.answer_ms > 0 for speed in found.speeds)


def _other_labels(folder: Path) -> Path:
    names = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    return save_bert(folder / "labels", bert(spread=0.05, **names))


def test_models_that_do_different_things_are_refused(
    bundles: tuple[Path, Path], writer: tuple[Path, Path], rows: Path, tmp_path: Path, bert_folder: Path
) -> None:
    classifier = bundles[0]
    with pytest.raises(InputError, match=r"has the task text-classification, .* text-generation"):
        compare(classifier, writer[1], rows)
    with pytest.raises(UnsupportedCheckpoint, match=r"for 'text-generation', asked for was 'text-classification'"):
        compare(writer[0], classifier, rows)
    with pytest.raises(InputError, match=r"has the labels negative, positive, .* bad, good"):
        compare(classifier, _other_labels(tmp_path), rows)
    with pytest.raises(InputError, match="two checkpoints; one of the two must be a bundle"):
        compare(bert_folder, bert_folder, rows)
    summaries = tmp_path / "summaries"
    export(ExportOptions(writer[0], summaries, task="summary"))
    descriptions = tmp_path / "descriptions"
    export(ExportOptions(writer[0], descriptions, task="description"))
    with pytest.raises(InputError, match=r"serves summary, .* description: compared are models that serve the same"):
        compare(summaries, descriptions, rows)


def test_a_checkpoint_with_another_tokenizer_is_refused(
    bundles: tuple[Path, Path], bert_folder: Path, rows: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(bert_folder, tmp_path / "lower"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocab = tokenizer["model"]["vocab"]
    first, second = [name for name in vocab if not name.startswith("[")][:2]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    texts = write_rows(tmp_path / "dev.jsonl", [{"text": f"{first} {second}", "label": label} for label in (0, 1)])
    with pytest.raises(InputError, match="as other token ids than"):
        compare(folder, bundles[0], texts)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"text": "a", "label": "great"}, {"text": "b", "label": 1}], "'great'"),
        ([{"text": "a", "label": 1}], "every row has the label 1"),
        ([{"text": "a"}], "no row has the fields text and label"),
        ([], "no row has the fields text and label"),
    ],
)
def test_an_evaluation_file_that_proves_nothing_ends_with_5(
    bundles: tuple[Path, Path], tmp_path: Path, data: list[dict[str, Any]], message: str
) -> None:
    result = _command(*bundles, "--eval", write_rows(tmp_path / "dev.jsonl", data))
    assert (result.exit_code, result.stdout) == (5, "")
    assert message in result.stderr


def test_what_is_not_there_is_named(bundles: tuple[Path, Path], rows: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="no such folder"):
        compare(bundles[0], tmp_path / "nothing", rows)
    with pytest.raises(UnsupportedCheckpoint, match=r"no config\.json"):
        compare(bundles[0], tmp_path, rows)
    missing = _command(bundles[0], tmp_path / "nothing", "--eval", rows)
    assert (missing.exit_code, missing.stdout) == (3, "")
    assert str(tmp_path / "nothing") in missing.stderr
    without = _command(bundles[0], bundles[1], "--eval", tmp_path / "no.jsonl")
    assert (without.exit_code, without.stdout) == (5, "")
    assert _command(bundles[0], "--eval", rows).exit_code == 2
    several = _command(bundles[0], "sentiment", "--eval", rows)
    assert several.exit_code == 5
    assert "stands for sentiment-en, sentiment-zh; name one of them" in several.stderr
