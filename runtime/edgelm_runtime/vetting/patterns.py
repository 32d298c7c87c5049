"""Regular expressions of tokenizers that cost no more than a walk over the text, whatever the text is.

tokenizers matches with Oniguruma, which backtracks: `(x+x+)+y` takes exponential time, and `x+y` quadratic. What is
accepted either is one of the expressions that are in use, word for word, or has a form in which nothing can fail after
a repetition without an end: there one comes last, behind a few characters of bounded number.
"""

from __future__ import annotations

import re

_CASE = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+"
_CASELESS = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
_SLASHES = _REST.replace(r"[\r\n]*", r"[\r\n/]*")
# Every repetition of these is followed by what it has eaten, or by an alternative that takes all of that at once.
KNOWN = frozenset((
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",  # GPT-2
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    rf"{_CASE}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}",  # cl100k, Llama 3
    rf"{_CASE}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}",  # Qwen 2 and 3
    rf"{_CASE}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}|"
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",  # Qwen 3.5
    rf"{_CASED}{_CASE}?|{_CASELESS}{_CASE}?|\p{{N}}{{1,3}}|{_SLASHES}",  # o200k
    rf"{_CASED}|{_CASELESS}|\p{{N}}|{_SLASHES}",  # Mistral's Tekken
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",  # CLIP
    r" ?[^(\s|[.,!?…。，、।۔،])]+",  # BLOOM
))  # fmt: skip

MAX_CHARACTERS = 1_000
_MAX_ATOMS = 32
_MAX_REPEATS = 64
_ATOM = re.compile(
    r"(?:\\[pP]\{\^?\w{1,30}\}|\\[sSdDwWhHrntfv]|\\[^\w\s]|\[\^?(?:\\[pP]\{\^?\w{1,30}\}|\\[sSdDwWhHrntfv]|\\[^\w\s]|[^\\\[\]&])+\]"
    r"|[^\\\[\](){}|*+?^$])(?P<times>[?*+]|\{\d{1,2}(?:,\d{0,2})?\})?"
)


def is_safe(pattern: str) -> bool:
    """Whether matching `pattern` all over a text takes time linear in its length."""
    if pattern in KNOWN:
        return True
    return 0 < len(pattern) <= MAX_CHARACTERS and all(map(_is_bounded, _alternatives(pattern)))


def _alternatives(pattern: str) -> list[str]:
    """The parts between bars; one inside a class or behind a backslash parts nothing."""
    parts, start, at, inside = [], 0, 0, False
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] in "[]":
            inside = pattern[at] == "["
        elif pattern[at] == "|" and not inside:
            parts.append(pattern[start:at])
            start = at + 1
        at += 1
    return [*parts, pattern[start:]]


def _is_bounded(alternative: str) -> bool:
    """A few characters of bounded number, at least one of them needed, the last one repeated without an end at most."""
    at, ways, needed, endless = 0, 1, 0, False
    for _ in range(_MAX_ATOMS):
        found = _ATOM.match(alternative, at)
        if found is None or endless:
            return False
        least, most = _times(found["times"])
        if most is not None and most < least:
            return False
        needed, endless, at = needed + least, most is None, found.end()
        ways *= 1 + (most or least) - least
        if at == len(alternative):
            return needed > 0 and ways <= _MAX_REPEATS and needed <= _MAX_REPEATS
    return False


def _times(quantifier: str | None) -> tuple[int, int | None]:
    """How often at least and at most; None is without an end."""
    if quantifier is None:
        return 1, 1
    if quantifier in "?*+":
        return int(quantifier == "+"), 1 if quantifier == "?" else None
    least, comma, most = quantifier[1:-1].partition(",")
    if not comma:
        return int(least), int(least)
    return int(least), int(most) if most else None
