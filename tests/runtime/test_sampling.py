"""Each fast function against a slow plain twin."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from edgelm_runtime.generate.edits import Edits, Ids, Row, ban_repeated_ngrams, penalize_repetition
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.generate.sampling import (
    choose,
    draw,
    fresh_seed,
    keep_top_k,
    keep_top_p,
    new_generator,
    softmax,
)
from edgelm_runtime.generate.stop import StopFilter

INF = math.inf
VOCAB = 12
finite = st.floats(-50, 50, width=32)
# Few different values, so that ties are common; some tokens are banned already.
values = st.one_of(finite, st.sampled_from([-1.0, 0.0, 2.0]), st.just(-INF))
rows = st.lists(values, min_size=VOCAB, max_size=VOCAB).filter(lambda row: max(row) > -INF)
answers = st.lists(st.integers(0, VOCAB - 1), max_size=40)


def as_row(logits: list[float]) -> Row:
    return np.array(logits, dtype=np.float32)


def as_ids(answer: list[int]) -> Ids:
    return np.array(answer, dtype=np.int64)


def probabilities(logits: list[float]) -> list[float]:
    top = max(logits)
    weights = [math.exp(logit - top) for logit in logits]
    return [weight / math.fsum(weights) for weight in weights]


@given(rows, answers, st.sampled_from([0.5, 1.0, 1.3, 2.0]))
def test_repetition_penalty(logits: list[float], answer: list[int], penalty: float) -> None:
    expected = [
        (logit * penalty if logit < 0 else logit / penalty) if token in answer else logit
        for token, logit in enumerate(logits)
    ]
    np.testing.assert_allclose(
        penalize_repetition(as_row(logits), as_ids(answer), penalty), expected, rtol=1e-6, atol=1e-30
    )


@given(rows, st.lists(st.integers(0, 3), max_size=40), st.integers(1, 6))
def test_no_repeat_ngram(logits: list[float], answer: list[int], size: int) -> None:
    seen = {tuple(answer[start : start + size]) for start in range(len(answer) - size + 1)}
    expected = [
        -INF if (*answer[len(answer) - size + 1 :], token) in seen else logit for token, logit in enumerate(logits)
    ]
    assert ban_repeated_ngrams(as_row(logits), as_ids(answer), size).tolist() == as_row(expected).tolist()


@given(rows, st.integers(1, VOCAB + 3))
def test_top_k(logits: list[float], k: int) -> None:
    threshold = sorted(logits, reverse=True)[min(k, VOCAB) - 1]
    expected = [logit if logit >= threshold else -INF for logit in logits]
    assert keep_top_k(as_row(logits), k).tolist() == as_row(expected).tolist()


@given(rows, st.floats(1e-6, 0.999999))
def test_top_p(logits: list[float], p: float) -> None:
    chances = probabilities(as_row(logits).tolist())
    kept, mass = set(), 0.0
    for token in sorted(range(VOCAB), key=lambda token: (-chances[token], token)):
        assume(abs(mass - p) > 1e-9)  # there, rounding decides
        if mass >= p:
            break
        kept.add(token)
        mass += chances[token]
    found = keep_top_p(as_row(logits), p)
    assert {token for token in range(VOCAB) if found[token] > -INF} == {t for t in kept if logits[t] > -INF}
    assert all(found[token] == as_row(logits)[token] for token in kept)


@given(rows)
def test_softmax(logits: list[float]) -> None:
    np.testing.assert_allclose(softmax(as_row(logits)), probabilities(as_row(logits).tolist()), rtol=1e-6, atol=1e-300)


@given(rows, st.floats(0, 1, exclude_max=True))
def test_draw(logits: list[float], uniform: float) -> None:
    chances = probabilities(as_row(logits).tolist())
    token = draw(as_row(logits), uniform)
    assert logits[token] > -INF
    below, here = math.fsum(chances[:token]), chances[token]
    assert below - 1e-9 <= uniform <= below + here + 1e-9


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_draw_never_takes_a_banned_token(uniform: float) -> None:
    assert draw(as_row([-INF, -INF, 1.0, -INF]), uniform) == 2


def test_draws_have_the_probabilities_of_the_row() -> None:
    row = as_row([0.0, 1.0, 2.0, -INF])
    generator = new_generator(11)
    counts = Counter(draw(row, generator.random()) for _ in range(20_000))
    for token, chance in enumerate(softmax(row)):
        assert counts[token] / 20_000 == pytest.approx(chance, abs=0.015)


@given(
    rows, answers, st.sampled_from([0.0, 0.01, 0.7, 100.0]), st.integers(0, 5), st.sampled_from([1e-9, 0.5, 0.9, 1.0])
)
def test_choose_changes_nothing_and_takes_a_possible_token(
    logits: list[float], answer: list[int], temperature: float, top_k: int, top_p: float
) -> None:
    options = GenerationOptions(
        temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=1.2, no_repeat_ngram_size=2
    )
    row, ids = as_row(logits), as_ids(answer)
    edits = Edits(options, ids[:0], vocab=VOCAB, eos_ids=())
    tokens = [choose(edits.change_or_yield(row, ids), options, new_generator(5)) for _ in range(2)]
    assert tokens[0] == tokens[1]
    assert logits[tokens[0]] > -INF
    assert row.tolist() == as_row(logits).tolist()
    assert ids.tolist() == answer


def test_a_large_vocabulary_is_sorted_only_where_it_matters() -> None:
    row = np.random.default_rng(0).normal(scale=3, size=50_000).astype(np.float32)
    for p in (0.1, 0.9, 0.999):
        order = np.argsort(-row, kind="stable")
        mass = np.cumsum(softmax(row)[order])
        expected = set(order[: int(np.sum(mass < p)) + 1].tolist())
        assert set(np.flatnonzero(np.isfinite(keep_top_p(row, p))).tolist()) == expected


def test_rules_that_ban_everything_give_way() -> None:
    edits = Edits(GenerationOptions(no_repeat_ngram_size=1), as_ids([]), vocab=3, eos_ids=())
    row, seen = as_row([1.0, 3.0, 2.0]), as_ids([0, 1, 2])
    assert edits.change_or_yield(row, seen) is row
    assert edits.change(row, seen).max() == -INF


def test_fresh_seeds_differ_and_are_accepted() -> None:
    seeds = {fresh_seed() for _ in range(5)}
    assert len(seeds) == 5
    for seed in seeds:
        GenerationOptions(seed=seed)


STOPS = st.lists(st.text("ab\u597d", min_size=1, max_size=4), max_size=3).map(tuple)


def until_stop(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """Slow twin: look at the whole text after every character."""
    for end in range(1, len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)], True
    return text, False


@given(st.lists(st.text("ab\u597d", max_size=6), max_size=10), STOPS)
@example(["aab\u597d"], ("ab\u597d", "a", "aab"))
@example(["abba"], ("abba", "bb"))
def test_stop_strings_do_not_depend_on_the_pieces(pieces: list[str], stops: tuple[str, ...]) -> None:
    filtered = StopFilter(stops)
    shown = [filtered.push(piece) for piece in pieces]
    found = filtered.found
    expected = until_stop("".join(pieces), stops)
    for end in range(len(shown)):
        assert expected[0].startswith("".join(shown[: end + 1]))
    assert ("".join(shown) + filtered.flush(), found) == expected
    assert not any(stop in expected[0] for stop in stops)


def test_only_what_may_become_a_stop_string_is_held_back() -> None:
    filtered = StopFilter(("###",))
    assert [filtered.push(piece) for piece in ("a#", "#b", "##", "#c", "d")] == ["a", "##b", "", "", ""]
    assert filtered.found
    assert filtered.flush() == ""
