from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm_runtime.script import language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("物流很快，质量也好", "zh"),
        ("This is a good pair of shoes", "en"),
        ("iPhone 手机很好用", "zh"),
        ("good 好", "zh"),
        ("a very good pair 好", "en"),
        ("", "en"),
        ("12345 !!! 😀", "en"),
        ("\0", "en"),
        ("שלום עולם", "en"),
        ("\ud800", "en"),
        ("𠮷野家", "zh"),
        ("café crème", "en"),
    ],
)
def test_the_script_tells_the_language(text: str, language: str) -> None:
    assert language_of(text) == language


@given(st.text(st.characters(codec=None)))
def test_any_text_has_one_of_two_languages(text: str) -> None:
    assert language_of(text) in ("zh", "en")


@given(st.lists(st.sampled_from(["好", "good "]), max_size=30))
def test_one_han_character_counts_like_one_latin_word(words: list[str]) -> None:
    han = words.count("好")
    assert language_of("".join(words)) == ("zh" if han and han >= _latin_runs(words) else "en")


def _latin_runs(words: list[str]) -> int:
    """Slow twin: "good " ends in a space, so every word is a run of its own."""
    return sum(1 for word in words if word.isascii())


def test_a_megabyte_is_no_trouble() -> None:
    assert language_of("好" * 1_000_000) == "zh"
    assert language_of("a " * 500_000) == "en"
