"""Guides against slow twins that look at the whole answer each time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm_runtime.generate.guides import Coverage, Quoting

VOCAB = 6
ENDS = (4, 5)
TOKENS = st.integers(0, 3)
SPELLINGS = st.lists(st.lists(TOKENS, min_size=1, max_size=4), min_size=1, max_size=2)


def _holds(answer: list[int], spelling: list[int]) -> bool:
    return any(answer[start : start + len(spelling)] == spelling for start in range(len(answer)))


def _reached(answer: list[int], spelling: list[int]) -> int:
    """How many tokens of the spelling the answer ends with."""
    return max(size for size in range(len(spelling)) if answer[len(answer) - size :] == spelling[:size])


@given(st.lists(SPELLINGS, max_size=3), st.lists(TOKENS, max_size=12))
def test_coverage_is_that_of_a_look_at_the_whole_answer(phrases: list[list[list[int]]], answer: list[int]) -> None:
    guide = Coverage(phrases, 1.5, ENDS)
    for token in answer:
        guide.push(token)
    left = [spellings for spellings in phrases if not any(_holds(answer, spelling) for spelling in spellings)]
    assert guide.left == len(left)
    expected = np.zeros(VOCAB, np.float32)
    for spellings in left:
        begin = spellings[0 if answer else -1][0]
        expected[begin] = max(expected[begin], 1.5)
        for spelling in spellings:
            if reached := _reached(answer, spelling):
                expected[spelling[reached]] = 3.0
    expected[list(ENDS)] = -1.5 if left else 0.0
    np.testing.assert_array_equal(guide.favour(np.zeros(VOCAB, np.float32)), expected)


@given(st.lists(TOKENS, max_size=8), st.lists(TOKENS, max_size=4))
def test_quoting_is_that_of_a_look_at_the_whole_text(text: list[int], answer: list[int]) -> None:
    guide = Quoting(text, 0.5)
    for token in answer:
        guide.push(token)
    follows = {text[index + 1] for index in range(len(text) - 1) if answer and text[index] == answer[-1]}
    expected = [0.5 * (token in text) + 0.5 * (token in follows) for token in range(VOCAB)]
    np.testing.assert_array_equal(guide.favour(np.zeros(VOCAB, np.float32)), np.array(expected, np.float32))


@pytest.mark.parametrize("guide", [Coverage([[[1, 2]], [[3]]], 9.0, ENDS), Quoting([1, 2, 3], 9.0)])
def test_a_guide_changes_no_argument_and_lifts_no_ban(guide: Coverage | Quoting) -> None:
    logits = np.array([0, -np.inf, 1, 2, 0, 0], np.float32)
    before = logits.copy()
    favoured = guide.favour(logits)
    np.testing.assert_array_equal(logits, before)
    assert favoured[1] == -np.inf
    assert favoured[3] > 2


def test_nothing_is_favoured_when_all_is_named() -> None:
    guide = Coverage([[[1], [2, 2]]], 9.0, ENDS)
    guide.push(1)
    assert guide.left == 0
    logits = np.zeros(VOCAB, np.float32)
    np.testing.assert_array_equal(guide.favour(logits), logits)
