from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from edgelm_runtime.vetting.patterns import KNOWN, is_safe

SAFE = (
    r"\p{Han}+|\p{N}",
    r" {2,}",
    r"\s{2,}|[\n\r\t]",
    r"\s+",
    "t▁+",
    "[0-9][0-9][0-9]",
    r"\s?[!-/:-~]+",
    ".",
    "[|]+",
    r"a\|",
)
SLOW = (
    "(x+x+)+y", "x+y", r"\s+$", "^▁+$", r"\s*", "", "|", "a|", r"(a)\1", "a{1,64}b{1,64}", r"\b", "a+?", "a++", "[[a]]",
    "[a&&b]", "[", " +▁", "a{2,1}", "(?i)a", r"\K", "(?=a)", "a{99,}b", "x" * 40, "[^a]+|(b|c)*",
)  # fmt: skip
ATOMS = st.sampled_from(("x", " ", r"\s", r"\p{L}", "[^y]", "[x7]", ".", "y"))
TIMES = st.sampled_from(("", "?", "*", "+", "{2}", "{1,3}", "{2,}"))
ALTERNATIVES = st.lists(st.tuples(ATOMS, TIMES).map("".join), min_size=1, max_size=4).map("".join)


@pytest.mark.parametrize("pattern", [*SAFE, *sorted(KNOWN)])
def test_patterns_that_are_in_use_pass_and_compile(pattern: str) -> None:
    assert is_safe(pattern)
    Regex(pattern)


@pytest.mark.parametrize("pattern", SLOW)
def test_what_may_backtrack_is_refused(pattern: str) -> None:
    assert not is_safe(pattern)


@pytest.mark.parametrize("pattern", sorted(KNOWN))
@pytest.mark.parametrize("text", ["x", " ", "\n", " \n", "7", "A", "Aa", "'", "\u0301", "物", "!", " x", "😀", "!/"])
def test_known_patterns_take_linear_time(pattern: str, text: str) -> None:
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    begun = process_time()
    split.pre_tokenize_str(text * 20_000)
    assert process_time() - begun < 2.0  # quadratic time would be minutes


@given(st.lists(ALTERNATIVES, min_size=1, max_size=3).map("|".join), st.sampled_from(("x", " ", "7x", "y", "xy")))
def test_whatever_passes_takes_linear_time(pattern: str, text: str) -> None:
    if is_safe(pattern):
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        begun = process_time()
        split.pre_tokenize_str(text * 3_000 + "z")
        assert process_time() - begun < 2.0
