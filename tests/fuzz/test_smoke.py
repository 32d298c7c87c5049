"""A few cases of every kind that `make fuzz` has thousands of, and that a fault is counted."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import COUNTS, Found, fuzz
from tests.fuzz.kinds import KINDS

SMOKE = 12


@pytest.mark.parametrize("kind", COUNTS)
def test_a_few_cases_are_answered_or_refused(kind: str) -> None:
    found = fuzz(kind, 3 if kind == "checkpoints" else SMOKE, seed=7)
    assert found.faults == 0, found.examples
    assert found.cases == found.counts["answered"] + found.counts["refused"] > 0


def test_every_kind_is_counted() -> None:
    assert list(COUNTS) == list(KINDS)


def test_a_fault_is_counted_once_and_kept_with_its_place() -> None:
    found = Found("graphs")
    for number in (3, 4):
        found.add("raw", number, "IndexError at loop.py:62: index")
    assert found.faults == 2
    assert list(found.examples.values()) == ["graphs 3: raw: IndexError at loop.py:62: index"]
