"""Metrics against slow twins and known values."""

from __future__ import annotations

import re
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm_export.finetune.data import Pair
from edgelm_export.metrics import classification_metrics, first_sentence, format_table, repeats_ngram, rouge_l
from edgelm_export.taskmetrics import (
    MAX_GENERATED,
    evaluation_pairs,
    generation_metrics,
    metric_columns,
    named_values,
)


def _slow_rouge_l(reference: str, candidate: str) -> float:
    def units(text: str) -> list[str]:
        return re.findall(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+", text.lower())

    left, right = units(reference), units(candidate)

    @cache
    def common(i: int, j: int) -> int:
        if i == len(left) or j == len(right):
            return 0
        if left[i] == right[j]:
            return 1 + common(i + 1, j + 1)
        return max(common(i + 1, j), common(i, j + 1))

    length = common(0, 0)
    if not length:
        return 0.0
    precision, recall = length / len(right), length / len(left)
    return 2 * precision * recall / (precision + recall)


WORDS = st.lists(st.sampled_from(["a", "b", "Cat", "cat", "物", "流", "快", "，", "x1", "!"]), max_size=9).map(" ".join)


@given(WORDS, WORDS)
def test_rouge_l_is_that_of_the_plain_recursion(reference: str, candidate: str) -> None:
    assert rouge_l(reference, candidate) == pytest.approx(_slow_rouge_l(reference, candidate), abs=1e-12)


@pytest.mark.parametrize(
    ("reference", "candidate", "expected"),
    [
        ("police killed the gunman", "police kill the gunman", 0.75),  # Lin (2004): 3 of 4 words
        ("police killed the gunman", "the gunman kill police", 0.5),
        ("物流很快", "物流快", 2 * 3 / 7),
        ("Great VALUE!", "great value", 1.0),
        ("iPhone手机很好", "iphone 手机", 2 * 3 / 8),
        ("abc", "xyz", 0.0),
        ("", "abc", 0.0),
        ("", "", 0.0),
        ("，。", "，。", 0.0),  # punctuation is no word
    ],
)
def test_rouge_l_of_known_pairs(reference: str, candidate: str, expected: float) -> None:
    assert rouge_l(reference, candidate) == pytest.approx(expected)


def test_classification_metrics_are_percent_and_macro() -> None:
    metrics = classification_metrics([0, 0, 0, 1], [0, 0, 1, 1])
    assert metrics["accuracy"] == pytest.approx(75.0)
    assert metrics["precision"] == pytest.approx(100 * (1.0 + 0.5) / 2)
    assert metrics["recall"] == pytest.approx(100 * (2 / 3 + 1.0) / 2)
    assert metrics["f1"] == pytest.approx(100 * (0.8 + 2 / 3) / 2)
    assert all(type(value) is float for value in metrics.values())


def test_a_class_that_is_never_predicted_counts_as_zero() -> None:
    metrics = classification_metrics([0, 1], [0, 0])
    assert (metrics["precision"], metrics["recall"]) == (25.0, 50.0)


@given(st.lists(st.sampled_from(["it", "fits", "白色"]), max_size=12), st.integers(1, 4))
def test_repeats_ngram_is_that_of_comparing_all_pairs(words: list[str], size: int) -> None:
    units = [unit for word in words for unit in ("白色" if word == "白色" else [word])]
    starts = range(len(units) - size + 1)
    slow = any(units[a : a + size] == units[b : b + size] for a in starts for b in starts if a < b)
    assert repeats_ngram(" ".join(words), size) is slow


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("物流很快。质量也好。", "物流很快。"),
        ("真的好吗？不好！", "真的好吗？"),
        ("颜色漂亮；尺码偏小", "颜色漂亮；"),
        ("It works. I like it.", "It works."),
        ("It costs 3.50 dollars. Fine.", "It costs 3.50 dollars."),
        ("  Really?! Yes.", "Really?"),
        ("Line one\nline two. Next.", "Line one\nline two."),
        ("no end", "no end"),
        ("", ""),
    ],
)
def test_first_sentence(text: str, expected: str) -> None:
    assert first_sentence(text) == expected


def test_named_values_are_those_that_the_reference_names() -> None:
    pair = Pair(
        "description", "name: Iron Meadow; genres: strategy, puzzle; rating: good", "Iron Meadow is a strategy game"
    )
    assert named_values(pair, "iron meadow, a puzzle") == [True, False]  # iron meadow, strategy


def test_generation_metrics_by_task_and_language() -> None:
    pairs = [
        Pair("summary", "It works well. I like it a lot.", "works well"),
        Pair("description", "类型: 裙; 颜色: 白色", "白色的裙"),
        Pair("description", "类型: 裤; 颜色: 黑色", "黑色的裤"),
    ]
    answers = [("works well", True), ("白色的裙", True), ("黑，真的很好看，真的很好看，真的很好看", False)]
    metrics = generation_metrics(pairs, answers)
    assert metrics["summary en ROUGE-L"] == pytest.approx(100.0)
    assert metrics["summary en first sentence ROUGE-L"] == pytest.approx(100 * 2 * 2 / 5)
    assert metrics["description zh ends by itself"] == pytest.approx(50.0)
    assert metrics["description zh repeats a 6-gram"] == pytest.approx(50.0)
    assert metrics["description zh names values"] == pytest.approx(50.0)


def test_tables_are_aligned_and_a_metric_may_be_missing() -> None:
    assert format_table([["a", 1.0], ["long", "x"]], ("name", "value")) == (
        "name  value\n----  -----\na     1.00\nlong  x"
    )
    rows = metric_columns({"torch": {"f1": 1.0}, "int8": {"f1": 2.0, "same": 3.0}})
    assert rows[0] == ["f1", 1.0, 2.0]
    assert rows[1] == ["same", "", 3.0]


def test_many_rows_are_thinned_out_by_task_and_language() -> None:
    chinese = [{"text": f"很长的正文{index}", "summary": f"短标题{index}"} for index in range(2 * MAX_GENERATED + 1)]
    english = [{"text": f"a long text {index}", "summary": f"short {index}"} for index in range(7)]
    chosen = evaluation_pairs([*chinese, *english], ["summary"])
    answers = [pair.answer for pair in chosen]
    assert answers[-7:] == [f"short {index}" for index in range(7)]
    assert answers[:-7] == [f"短标题{index}" for index in range(0, 2 * MAX_GENERATED + 1, 3)]
