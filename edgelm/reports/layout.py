"""Aligned text that fits a terminal, also with Chinese names, and numbers with three significant digits."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection, Iterator, Sequence

GAP, INDENT = 2, 2
_DIGITS = 3


def number(value: float | None) -> str:
    """Three significant digits; "n/a" for None."""
    if value is None or not math.isfinite(value):
        return "n/a"
    rounded = float(f"{value:.{_DIGITS}g}")
    if rounded == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(rounded)))
    if not -_DIGITS <= magnitude < 9:
        return f"{rounded:.{_DIGITS - 1}e}"
    return f"{rounded:,.{max(0, _DIGITS - 1 - magnitude)}f}"


def percent(share: float | None) -> str:
    """A part of one as "31.0 %"."""
    return "n/a" if share is None else f"{number(100 * share)} %"


def size(count: float | None) -> str:
    """Bytes with the unit that suits, by powers of 1,000."""
    return "n/a" if count is None else scaled(count, "B")


def scaled(value: float, unit: str) -> str:
    """A number with k, M, G or T before its unit."""
    for prefix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor:
            return f"{number(value / factor)} {prefix}{unit}"
    return f"{number(value)} {unit}"


def cells(text: str) -> int:
    """Columns of a terminal that a text takes: two for wide characters (Unicode's annex 11), none for marks."""
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def table(rows: Sequence[Sequence[str]], width: int, words: Collection[str] = ()) -> Iterator[str]:
    """Rows below a header, numbers to the right, the first column and those named in `words` to the left.

    Where `width` columns are too few, a block for each row instead, with the header's names before its cells.
    """
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    gap = min(GAP, (width - sum(widths)) // max(1, len(widths) - 1))
    if gap < 1:
        yield from _folded(rows, width)
        return
    left = [not at or name in words for at, name in enumerate(rows[0])]
    for row in rows:
        padded = map(_pad, row, widths, left)
        yield (" " * gap).join(padded).rstrip()


def _pad(cell: str, width: int, left: bool) -> str:
    spaces = " " * (width - cells(cell))
    return cell + spaces if left else spaces + cell


def _folded(rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    header, *others = rows
    yield from wrapped(header[0], width)
    for row in others:
        yield from wrapped(row[0], width)
        line = ""
        for name, cell in zip(header[1:], row[1:], strict=True):
            joined = f"{line}, {name} {cell}" if line else f"{' ' * 2 * INDENT}{name} {cell}"
            if line and cells(joined) >= width:
                yield line + ","
                joined = f"{' ' * 2 * INDENT}{name} {cell}"
            line = joined
        yield from wrapped(line, width, 2 * INDENT)


def wrapped(text: str, width: int, indent: int = INDENT) -> Iterator[str]:
    """A text on lines of at most `width` columns, those after the first indented; a word that is longer is cut."""
    start = len(text) - len(text.lstrip())
    line, indent = text[:start], min(indent, width // 2)
    for word in text[start:].split(" "):
        joined = f"{line} {word}" if line.strip() else line + word
        if cells(joined) <= width:
            line = joined
            continue
        if line.strip():
            yield line.rstrip()
            line = " " * indent + word
        else:
            line += word
        while cells(line) > width:
            head = _head(line, width)
            yield head
            line = " " * indent + line[len(head) :]
    if line.strip():
        yield line.rstrip()


def cut(text: str, width: int) -> str:
    """A text of at most `width` columns, with … where something is missing."""
    return text if cells(text) <= width else _head(text, width - 1) + "…"


def _head(text: str, width: int) -> str:
    """As many characters as fit."""
    taken = 0
    for place, character in enumerate(text):
        taken += cells(character)
        if taken > width:
            return text[:place]
    return text
