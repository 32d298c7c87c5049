"""A few cases of every kind that `make fuzz` has thousands of, and that a fault is counted."""

from __future__ import annotations

import pytest

from tests.fuzz import attack
from tests.fuzz.__main__ import COUNTS, Found, fuzz
from tests.fuzz.kinds import KINDS

SMOKE = 12


@pytest.mark.parametrize("kind", COUNTS)
def test_a_few_cases_are_answered_or_refused(kind: str) -> None:
    found = fuzz(kind, 3 if kind == "checkpoints" else SMOKE, seed=7)
    assert found.faults == 0, found.examples
    assert found.cases == found.counts["answered"] + found.counts["refused"] > 0


@pytest.mark.parametrize("case", [("sentiment", "plain", "emoji"), ("summary", "facts", "digits with dots")])
def test_a_long_text_is_answered_or_refused_in_little_memory(case: tuple[str, str, str]) -> None:
    found = attack.attack(*case, characters=200_000)
    assert not attack.is_fault(found), found


def test_cases_of_the_attack_are_every_option_with_every_shape() -> None:
    found = set(attack.cases())
    assert {("summary", option, shape) for option in attack.OPTIONS for shape in attack.SHAPES} <= found
    assert ("description", "must_include=", "one run") in found


def test_every_kind_is_counted() -> None:
    assert list(COUNTS) == list(KINDS)


def test_a_fault_is_counted_once_and_kept_with_its_place() -> None:
    found = Found("graphs")
    for number in (3, 4):
        found.add("raw", number, "IndexError at loop.py:62: index")
    assert found.faults == 2
    assert list(found.examples.values()) == ["graphs 3: raw: IndexError at loop.py:62: index"]
