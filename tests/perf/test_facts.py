"""The search for facts that a source does not have finds them, and none in what the rule lets through."""

from __future__ import annotations

import pytest

from perf.facts import foreign, of_a_vocabulary, of_the_writer, source

GIVEN = "name: aurora 14; drive: 320 gb; price: $499"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("the aurora 14 has 320 gb for $499", {}), ("a 500 gb drive", {"numbers": 1, "units": 1}),
        ("only $320", {"prices": 1}), ("a 320 inch one", {"units": 1}), ("the PS5", {"numbers": 1, "names": 1}),
    ],
)  # fmt: skip
def test_what_is_foreign_is_found(text: str, kinds: dict[str, int]) -> None:
    assert {kind: count for kind, count in foreign(GIVEN, text, "en").items() if count} == kinds


def test_locked_answers_have_none() -> None:
    assert of_the_writer(8) == {"answers": 8}
    pieces = [*map(chr, range(0x21, 0x7F)), "Ġ", "Ġ320", "gb", "Ġgb", "Ġinch", "14", "320", "Ġ$", "Ġaurora", "ĠThe"]
    assert of_a_vocabulary(pieces, 24) == {"answers": 24}
    assert source(1) != source(3)
