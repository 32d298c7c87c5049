"""Prompt lookup: what it proposes, when it pauses, and that it changes no answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.generate.lookup import NGRAM_SIZES, PAUSE, PromptLookup
from edgelm_runtime.generate.loop import GeneratorSession
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.session import SessionOptions, create_session

BUNDLE = Path(__file__).parents[1] / "data" / "tiny-generator"


def test_what_followed_before_is_proposed() -> None:
    lookup = PromptLookup([5, 6, 7, 8, 9, 1, 2], 8)
    assert lookup.propose(8) == []
    for token in (5, 6):
        lookup.push(token)
    assert lookup.propose(8) == [7, 8, 9, 1, 2, 5, 6]
    assert lookup.propose(3) == [7, 8, 9]
    assert lookup.propose(0) == []
    assert PromptLookup([1, 2, 3, 1, 2], 1).propose(8) == [3]


def test_the_longest_match_is_believed_and_of_these_the_newest() -> None:
    assert PromptLookup([9, 1, 2, 30, 8, 1, 2, 40, 9, 1, 2], 1).propose(1) == [30]
    assert PromptLookup([1, 2, 30, 1, 2, 40, 1, 2], 1).propose(1) == [40]


def slow_propose(tokens: list[int], most: int) -> list[int]:
    for size in NGRAM_SIZES:
        for start in range(len(tokens) - size - 1, -1, -1):
            if len(tokens) > size and tokens[start : start + size] == tokens[-size:]:
                return tokens[start + size : start + size + most]
    return []


@given(st.lists(st.integers(0, 3), max_size=30), st.lists(st.integers(0, 3), max_size=30), st.integers(1, 9))
def test_proposals_are_those_of_a_search_from_the_end(prompt: list[int], answer: list[int], most: int) -> None:
    lookup = PromptLookup(prompt, most)
    for token in answer:
        lookup.push(token)
    assert lookup.propose(100) == slow_propose(prompt + answer, most)


def test_it_pauses_while_proposals_are_wrong() -> None:
    lookup = PromptLookup([1, 2, 3, 1, 2], 1)
    wrong = 0
    while lookup.propose(1):
        lookup.judge(1, 0)
        wrong += 1
    assert 1 < wrong < 6
    assert [lookup.propose(1) for _ in range(PAUSE)] == [[]] * (PAUSE - 1) + [[3]]
    for _ in range(50):
        lookup.judge(1, 1)
    assert lookup.propose(1) == [3]
    assert (lookup.proposed, lookup.accepted) == (50 + wrong, 50)


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.5, "seed": 4}, {"temperature": 0.5, "top_p": 0.9, "seed": 4}]
)
def test_the_answer_is_the_same_with_and_without(options: dict[str, float]) -> None:
    model = GeneratorSession(
        create_session(open_bundle(BUNDLE).read("model.onnx"), SessionOptions(1)), max_tokens=96, eos_ids=()
    )
    prompt = [7, 8, 9, 7, 8, 9, 50, 51, 7, 8]
    plain = model.stream(prompt, GenerationOptions(prompt_lookup_num_tokens=0, max_new_tokens=80, **options))
    looked_up = model.stream(prompt, GenerationOptions(prompt_lookup_num_tokens=8, max_new_tokens=80, **options))
    assert list(looked_up) == list(plain)
    assert plain.lookup is None
    assert looked_up.lookup is not None
    assert 0 < looked_up.lookup.accepted <= looked_up.lookup.proposed
