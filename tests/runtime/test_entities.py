"""Labels of tokens to entities, and texts that are split into words before, without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelm_runtime.errors import BundleRejected, InputError
from edgelm_runtime.manifest import Manifest
from edgelm_runtime.tasks.entities import Spans, entities_of, marks_of, tokens_of, words_of
from edgelm_runtime.tasks.presplit import Words

TINY = Path(__file__).parents[1] / "data" / "tiny-classifier" / "edgelm.json"
LABELS = ("O", "B-X", "I-X", "E-X", "S-X", "B-Y", "I-Y", "E-Y", "S-Y")


def found(sequence: str, tags: dict[str, str]) -> list[str]:
    """The entities of one token a character, as "KIND text"; letters after a blank are of the kind Y."""
    named = [f"{place}-{'Y' if place.islower() else 'X'}".upper() if place != "O" else "O" for place in sequence]
    scores = np.array([[float(label == name) for label in LABELS] for name in named])
    places = range(len(sequence))
    spans = Spans(list(places), [place + 1 for place in places])
    return [f"{one.label} {one.text}" for one in entities_of(scores, spans, marks_of(LABELS, tags), sequence)]


@pytest.mark.parametrize(
    ("sequence", "entities"),
    [
        ("OBIEO", ["X BIE"]),
        ("OBEO", ["X BE"]),
        ("SSS", ["X S", "X S", "X S"]),
        ("BIEBE", ["X BIE", "X BE"]),
        ("BEs", ["X BE", "Y s"]),
        ("IIE", ["X IIE"]),  # no beginning: one all the same
        ("EE", ["X E", "X E"]),
        ("SI", ["X S", "X I"]),
        ("BIi", ["X BI", "Y i"]),
        ("OOO", []),
        ("Bbie", ["X B", "Y bie"]),
    ],
)
def test_a_scheme_that_marks_ends(sequence: str, entities: list[str]) -> None:
    assert found(sequence, {label: label for label in LABELS}) == entities


def test_without_tags_labels_are_read_as_transformers_reads_them() -> None:
    assert found("OBIEO", {}) == ["X BI", "E-X E"]
    assert found("BBS", {}) == ["X B", "X B", "S-X S"]


def test_words_have_the_scores_of_their_tokens() -> None:
    scores = np.array([[0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])
    subwords, spans = [True, True, False, True], Spans([0, 2, 4, 7], [2, 4, 6, 9])
    for strategy, right in (
        ("first", [[0.6, 0.4], [0.2, 0.8]]),
        ("average", [[0.35, 0.65], [0.45, 0.55]]),
        ("max", [[0.1, 0.9], [0.2, 0.8]]),
    ):
        words, places = words_of(scores, subwords, spans, strategy)
        np.testing.assert_allclose(words, right)
        assert places == Spans([0, 4], [4, 9])


def test_tokens_keep_their_labels() -> None:
    scores = np.eye(len(LABELS))[[1, 0, 4]]
    assert [one.label for one in tokens_of(scores, Spans([0, 1, 2], [1, 2, 3]), LABELS, "abc")] == ["B-X", "S-X"]


@pytest.mark.parametrize(
    ("given", "text", "starts"),
    [
        (["Nike", "shoes"], "Nike shoes", [0, 5]),
        (("Nike", "shoes"), "Nike shoes", [0, 5]),
        ({"tokens": ["Nike", "shoes"]}, "Nike shoes", [0, 5]),
        (list("买屏幕"), "买屏幕", [0, 1, 2]),
        (["买", "屏幕"], "买 屏幕", [0, 2]),
        (["a", "b"], "a b", [0, 2]),
        ({"tokens": ["买", "屏幕"], "delimiter": ""}, "买屏幕", [0, 1]),
        (["", "a", ""], " a ", [0, 1, 3]),
    ],
)
def test_words_and_characters_make_a_text(given: Any, text: str, starts: list[int]) -> None:
    words = Words.of(given)
    assert words is not None
    assert (words.text, words.starts) == (text, starts)
    for length in range(len(text) + 2):
        assert (
            words.until(length).text == text[:length].removesuffix(words.delimiter)
            or words.until(length).text == (text[:length])
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a", 1], "word 2 is int"),
        ({"tokens": "a b"}, "tokens is str, a list of words"),
        ({"tokens": ["a"], "text": "a"}, "accepted are tokens and delimiter"),
        ({"tokens": ["a"], "delimiter": 1}, "delimiter is int"),
    ],
)
def test_what_is_no_list_of_words_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Words.of(given)


def test_a_text_is_none() -> None:
    assert Words.of("a text") is None
    assert Words.of({"text": "a text"}) is None


def test_the_manifest_checks_both_fields() -> None:
    plain = json.loads(TINY.read_text("utf-8"))
    tags = {"negative": "O", "positive": "S-GOOD"}
    whole = {**plain, "aggregation": "first", "tags": tags}
    read = Manifest.from_bytes(json.dumps(whole).encode())
    assert (read.aggregation, read.tags) == ("first", tags)
    assert json.loads(read.to_json()) == whole
    for name, value, message in (
        ("aggregation", "last", "aggregation must be one of simple, none"),
        ("tags", {"negative": "O"}, "tags must have every label"),
        ("tags", {**tags, "positive": "X-GOOD"}, "tags must be O, or"),
        ("tags", {**tags, "positive": 1}, "tags must be O, or"),
        ("tags", ["O"], "tags must be an object"),
    ):
        with pytest.raises(BundleRejected, match=message):
            Manifest.from_bytes(json.dumps({**whole, name: value}).encode())
