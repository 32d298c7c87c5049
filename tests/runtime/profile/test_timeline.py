"""A few answers on one time line: what is in it, and that everything lies within what caused it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm_runtime.profile import timeline
from edgelm_runtime.profile.timeline import Slice, Timeline, nested


def within(slices: Sequence[Slice]) -> list[tuple[Slice, Slice | None]]:
    """Each slice with the innermost one around it. Fails where two meet without one being inside the other."""
    around: list[Slice] = []
    found = []
    for one in slices:
        assert 0 <= one.start <= one.end
        while around and around[-1].end <= one.start:
            around.pop()
        if around:
            assert one.end <= around[-1].end
        found.append((one, around[-1] if around else None))
        around.append(one)
    return found


@pytest.fixture
def answers(classifier: Any) -> Timeline:
    return timeline.measure(classifier(["good", "the parcel is good", "bad", "the parcel is bad", "slow", "fast"]))


@pytest.fixture
def text(generator: Any) -> Timeline:
    return timeline.measure(generator())


def test_answers_have_their_stages_and_operators(answers: Timeline) -> None:
    assert (answers.answers, answers.left_out) == (5, 0)
    names = [one.name for one in answers.slices]
    assert names.count("Gather") == names.count("ReduceMean") == names.count("tokenize") == 5
    assert names[:7] == ["answer 1", "tokenize", "infer", "infer 3 tokens", "Gather", "ReduceMean", "decode"]
    causes = {(one.name, around.name) for one, around in within(answers.slices) if one.kind == "operator" and around}
    assert causes == {(name, f"infer {count} tokens") for name in ("Gather", "ReduceMean") for count in (3, 6)}
    assert answers.slices[0].args == {"tokens": 3}


def test_operators_say_where_they_ran_and_on_what(answers: Timeline) -> None:
    operator = next(one for one in answers.slices if one.kind == "operator")
    assert operator.args["provider"] == "CPUExecutionProvider"
    assert (operator.args["inputs"], operator.args["outputs"]) == ("[[33, 2], [1, 3]]", "[[1, 3, 2]]")


def test_a_text_has_a_stage_for_each_token(text: Timeline) -> None:
    assert text.answers == 1
    tokens = int(text.slices[0].args["tokens"])
    names = [one.name for one in text.slices if one.kind == "stage"]
    assert tokens > 1
    assert names.count("prefill, token 1") == 1
    assert [f"token {number}" for number in range(2, tokens + 1)] == [one for one in names if one.startswith("token ")]
    assert names.count("detokenize") == tokens
    assert names.count("sample") >= tokens
    inside = within(text.slices)
    assert {around.kind for one, around in inside if one.kind == "operator" and around} == {"run"}
    assert {around.name for one, around in inside if one.name == "sample" and around} > {"prefill, token 1", "token 2"}
    runs = [one for one in text.slices if one.kind == "run"]
    assert runs[0].name == f"infer {text.slices[0].args['prompt_tokens']} tokens"
    assert {one.name for one in runs[1:]} == {"infer 1 token"}
    first, second = (one for one in text.slices if one.name in ("prefill, token 1", "token 2"))
    assert first.end <= second.start


def test_slices_come_in_order(text: Timeline, answers: Timeline) -> None:
    for found in (text, answers):
        assert all(before.start <= after.start for before, after in pairwise(found.slices))
        assert sum(one.kind == "operator" for one in found.slices) > 0
        assert all(one.end > one.start for one in found.slices if one.kind != "operator")


def test_what_is_too_much_is_left_out_and_counted(generator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MAX_SLICES", 100)
    found = timeline.measure(generator(["the parcel is good"]))
    stages = sum(one.kind != "operator" for one in found.slices)
    assert len(found.slices) == max(100, stages)
    assert found.left_out > 0


def test_clocks_that_overlap_by_their_rounding_do_not_nest_operators() -> None:
    run = Slice("run", "run", 0, 100)
    first, second = Slice("a", "operator", 10, 31), Slice("b", "operator", 30, 50)
    late = Slice("c", "operator", 90, 120)
    assert list(nested([late, second, run, first])) == [run, first, replace(second, start=31), replace(late, end=100)]


@given(st.lists(st.builds(Slice, st.text(), st.sampled_from(["stage", "run", "operator"]),
                          st.integers(0, 50), st.integers(0, 50))))  # fmt: skip
def test_whatever_the_clocks_say_slices_nest(slices: list[Slice]) -> None:
    sound = [replace(one, end=max(one.start, one.end)) for one in slices]
    assert len(within(list(nested(sound)))) == len(sound)


def test_nothing_is_left_in_the_temporary_folder(
    classifier: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    timeline.measure(classifier(["good"]))
    assert list(tmp_path.iterdir()) == []
