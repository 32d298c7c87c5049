"""What a bundle proves: distances of logits, decoding with and without the cache, metrics before and after."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgelm_export import problems, verify
from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.evaluation import Evaluation, Example
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.significance import bootstrap_interval, mcnemar_exact, paired_permutation
from edgelm_export.taskmetrics import differences, evaluation_rows
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import InputError
from edgelm_runtime.generate.loop import GeneratorSession
from edgelm_runtime.loader import load
from edgelm_runtime.manifest import Manifest
from edgelm_runtime.tokenizer import TextTokenizer
from tests.export.rows import write_rows

LABELS = ("negative", "positive")
TINY = Path(__file__).parents[1] / "data" / "tiny-classifier"


def labelled(*labels: str) -> Manifest:
    """The manifest of a classifier of these labels."""
    return replace(open_bundle(TINY, verify="lazy").manifest, labels=labels)


ROWS = st.lists(st.floats(-90, 90, width=32), min_size=2, max_size=6)


@given(ROWS, st.randoms(use_true_random=False))
def test_the_divergence_is_torchs(values: list[float], draw: Any) -> None:
    reference, found = np.array(values, np.float32), np.array(draw.sample(values, len(values)), np.float32)
    left, right = (torch.log_softmax(torch.from_numpy(one).double(), 0) for one in (reference, found))
    expected = torch.nn.functional.kl_div(right, left, reduction="sum", log_target=True)
    assert problems.kl_divergence(reference, found) == pytest.approx(float(expected), rel=1e-9, abs=1e-12)
    assert problems.kl_divergence(reference, reference) == 0.0


def test_parity_is_that_of_plain_loops(bert_folder: Path, tmp_path: Path) -> None:
    report = export(ExportOptions(bert_folder, tmp_path / "bundle"))
    model, parity = load(tmp_path / "bundle"), report.parity
    manifest = open_bundle(tmp_path / "bundle").manifest
    cases, _ = verify.consult(load_checkpoint(bert_folder), manifest)
    errors, divergences = [], []
    for case in cases:
        logits = model.infer(case.ids)
        errors.append([abs(float(a) - float(b)) for a, b in zip(case.expected, logits, strict=True)])
        p, q = (torch.softmax(torch.from_numpy(one.astype(np.float64)), 0) for one in (case.expected, logits))
        divergences.append(float((p * (p / q).log()).sum()))
    assert parity.largest_error == pytest.approx(max(map(max, errors)), rel=1e-5)
    assert parity.mean_error == pytest.approx(float(np.mean(errors)), rel=1e-5)
    assert (parity.kl, parity.largest_kl) == pytest.approx((float(np.mean(divergences)), max(divergences)), abs=1e-12)
    assert 0.0 < parity.kl < 0.01
    assert parity.cached == 1.0
    assert manifest.quality["parity"]["largest_error"] == parity.largest_error


def test_a_cache_that_answers_otherwise_shows(
    gpt2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = export(ExportOptions(gpt2_folder, tmp_path / "bundle"))
    assert report.parity.cached > 0.9  # ties of a random model may go either way
    cases, _ = verify.consult(load_checkpoint(gpt2_folder), open_bundle(tmp_path / "bundle").manifest)
    stream = GeneratorSession.stream

    def wrong(session: GeneratorSession, *arguments: Any, **options: Any) -> Iterator[int]:
        return ((token + 1) % session.vocab for token in stream(session, *arguments, **options))

    monkeypatch.setattr(GeneratorSession, "stream", wrong)
    assert verify.measure_parity(tmp_path / "bundle", cases[:4]).cached < 0.2


def _evaluation(scores: list[float], metric: str = "accuracy") -> Evaluation:
    examples = [Example("sentiment", f"text {index}", "positive", metric) for index in range(len(scores))]
    return Evaluation({}, examples, [str(score) for score in scores], np.array(scores))


def test_right_and_wrong_are_tested_by_their_changes() -> None:
    before = _evaluation([100.0] * 12 + [0.0] * 3 + [100.0] * 5)
    after = _evaluation([100.0] * 12 + [100.0] * 3 + [0.0] * 5)
    (found,) = differences(before, after)
    assert (found.metric, found.rows, found.before, found.after) == ("accuracy", 20, 85.0, 75.0)
    assert found.difference == pytest.approx(-10.0)
    assert (found.p, found.test) == (mcnemar_exact(5, 3), "McNemar, exact")
    assert found.interval == bootstrap_interval(after.scores - before.scores)
    (back,) = differences(after, before)
    assert (back.p, back.difference) == (found.p, pytest.approx(10.0))


def test_graded_scores_are_permuted_and_metrics_stay_apart() -> None:
    draw = np.random.default_rng(0)
    before, after = (_evaluation(draw.uniform(0, 90, 30).tolist(), "summary en ROUGE-L") for _ in range(2))
    examples = [replace(one, metric="summary zh ROUGE-L") for one in before.examples[:10]] + before.examples[10:29]
    examples.append(replace(before.examples[29], metric="of one row"))
    before, after = (replace(one, examples=examples) for one in (before, after))
    found = {one.metric: one for one in differences(before, after)}
    assert {name: one.rows for name, one in found.items()} == {"summary zh ROUGE-L": 10, "summary en ROUGE-L": 19}
    change = after.scores[:10] - before.scores[:10]
    assert found["summary zh ROUGE-L"].p == paired_permutation(change)
    assert found["summary zh ROUGE-L"].test == "paired permutation"


def test_only_rows_that_both_answered_are_compared() -> None:
    before, after = _evaluation([0.0, 100.0, 100.0, 0.0]), _evaluation([100.0, 100.0, 0.0, 0.0])
    after = replace(after, examples=[replace(after.examples[0], text="another"), *after.examples[1:]])
    (found,) = differences(before, after)
    assert (found.rows, found.before, found.after) == (3, pytest.approx(200 / 3), pytest.approx(100 / 3))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a", "label": "great"}, {"text": "b", "label": 1}], "1 of 2 rows have labels .* 'great'; accepted"),
        ([{"text": "a", "label": 2}, {"text": "b", "label": 1}], "'2'; accepted are 'negative', 'positive'"),
        ([{"text": "a", "label": str(n)} for n in range(2, 9)], "'2', '3', '4', '5', '6' and more; accepted"),
        ([{"text": "a", "label": 1}, {"text": "b", "label": "positive"}], "every row has the label 1"),
        ([{"text": "a"}, {"text": "b", "label": None}], "no row has the fields text and label"),
        ([], "no row has the fields text and label"),
    ],
)
def test_an_evaluation_file_that_proves_nothing_is_refused(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        evaluation_rows(write_rows(tmp_path / "dev.jsonl", rows), labelled(*LABELS), ("sentiment",))


def test_labels_may_be_names_or_numbers(tmp_path: Path) -> None:
    for labels in ((0, 1), ("0", "positive"), ("negative", "positive")):
        rows = [{"text": "a", "label": label} for label in labels]
        assert evaluation_rows(write_rows(tmp_path / "dev.jsonl", rows), labelled(*LABELS), ("sentiment",)) == rows
    rows = [{"text": "a", "label": label} for label in ("0", "1")]
    with pytest.raises(InputError, match="2 of 2 rows"):
        evaluation_rows(write_rows(tmp_path / "dev.jsonl", rows), labelled("good", "bad"), ("sentiment",))


def test_an_export_refuses_such_a_file_before_any_work(bert_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "dev.jsonl"
    path.write_text(json.dumps({"text": "a", "label": "great"}), "utf-8")
    with pytest.raises(InputError, match="'great'"):
        export(ExportOptions(bert_folder, tmp_path / "bundle", eval_file=path))
    assert [found.name for found in tmp_path.iterdir()] == ["dev.jsonl"]


def test_a_pair_is_cut_to_the_context_in_both_of_its_texts() -> None:
    bundle = open_bundle(TINY, verify="lazy")
    tokenizer = TextTokenizer(bundle.read("tokenizer.json"), bundle.manifest.tokenizer)
    for pair in (("good " * 40, "bad"), ("good", "bad " * 40), ("good " * 40, "bad " * 40), ("good", "bad")):
        row = verify.row_of(tokenizer, None, pair)
        assert len(row.ids) == len(row.type_ids) <= bundle.manifest.tokenizer.max_tokens
        assert {tokenizer.token_id("good"), tokenizer.token_id("bad")} <= set(row.ids)
