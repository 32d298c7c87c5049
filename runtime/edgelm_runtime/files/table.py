"""Tables: rows below a header line, with commas, semicolons or tabs between their fields (RFC 4180)."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError
from .content import kind_of, read_bytes
from .encoding import decode, marked
from .lines import parse_lines
from .rows import Problem, Record, Rows

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
# How Excel is told the delimiter, which it then leaves out of the table.
_TOLD = re.compile(r'"?sep=([,;\t])"?\s*', re.IGNORECASE)
_ALL = "".join(DELIMITERS)
_PROBED = 64


def read_rows(path: Path) -> Rows:
    """The rows of a .txt, .jsonl, .csv or .tsv file, each also .gz.

    Raises InputError for no such file, another kind, an encoding that is not known (with the command that mends it),
    and a table without a header, or with a header that names a column twice.
    """
    kind = kind_of(path)
    data = read_bytes(path)
    text = decode(data, path)
    if kind in (".txt", ".jsonl"):
        rows = parse_lines(text, is_json=kind == ".jsonl")
    else:
        rows = parse_table(text, str(path), "\t" if kind == ".tsv" else _ALL)
    codec = marked(data)
    return rows if codec is None else replace(rows, notes=(f"read as {codec.upper()}",))


@dataclass(frozen=True)
class Layout:
    """How a table is written: the line of its header, its columns, what separates them, and what may be skipped."""

    header: int
    columns: tuple[str, ...]
    delimiter: str
    spaced: bool

    def reader(self, lines: Iterator[str]) -> Any:
        """What parses the lines of such a table into fields, as csv.reader."""
        return csv.reader(lines, delimiter=self.delimiter, skipinitialspace=self.spaced, strict=True)


@dataclass(frozen=True)
class Parsed:
    """A row as it was read: its first and last line, counted from 1, and its fields, or why it has none."""

    line: int
    last: int
    fields: list[str] | str


def parse_table(text: str, source: str, delimiters: str = _ALL) -> Rows:
    """The rows of a table, whose quoted fields may hold line ends; one of the `delimiters` separates fields.

    A row is refused by its line where it has other fields than the header, or quotes that cannot be read; reading goes
    on with the next line. Fields that are empty beyond the header are passed over, and rows in which all are.
    Raises InputError for no header, or a column that is named twice.
    """
    lines = list(io.StringIO(text, newline=""))
    with _long_fields(len(text)):
        layout = _layout(lines, source, delimiters)
        parsed = list(_parsed(lines, layout, layout.header, len(lines)))
        if any(row.last > row.line for row in parsed):
            parsed = list(_without_swallowed(lines, layout, parsed))
    entries = tuple(entry for row in parsed if (entry := _entry(row, layout)) is not None)
    return Rows(entries, layout.columns, blank=len(parsed) - len(entries))


def _entry(row: Parsed, layout: Layout) -> Record | Problem | None:
    """A row of the table; None for a blank one."""
    fields = _fitted(row.fields, layout) if isinstance(row.fields, list) else row.fields
    if isinstance(fields, str):
        return Problem(row.line, fields)
    return Record(row.line, dict(zip(layout.columns, fields, strict=True))) if fields else None


@contextmanager
def _long_fields(most: int) -> Iterator[None]:
    """Let fields be as long as the text; the limit is one of the whole process, and comes back."""
    before = csv.field_size_limit()
    csv.field_size_limit(max(most, before))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _layout(lines: Sequence[str], source: str, delimiters: str) -> Layout:
    """Find the header and what separates its columns: that which makes most of them, and rows that fit."""
    start = 0
    if lines and (told := _TOLD.fullmatch(lines[0])):
        start, delimiters = 1, told.group(1)
    while start < len(lines) and not lines[start].strip(_ALL + ' "\r\n'):
        start += 1
    if start == len(lines):
        raise InputError(f"{source}: empty; a header line with the column names is needed")
    layouts = [_layout_with(lines, start, delimiter) for delimiter in delimiters]
    widest = max(len(layout.columns) for layout in layouts)
    likely = [layout for layout in layouts if len(layout.columns) == widest]
    # One column is separated by nothing: the first, so that a text with commas is refused and not cut elsewhere.
    chosen = likely[0] if widest == 1 or len(likely) == 1 else max(likely, key=partial(_fitting, lines))
    doubled = sorted({name for name in chosen.columns if chosen.columns.count(name) > 1})
    if doubled:
        raise InputError(f"{source}: the header names {', '.join(map(repr, doubled))} twice; rename one of them")
    return chosen


def _layout_with(lines: Sequence[str], start: int, delimiter: str) -> Layout:
    parts = lines[start].rstrip("\r\n").split(delimiter)
    spaced = len(parts) > 1 and all(part.startswith(" ") for part in parts[1:])
    layout = Layout(start, (), delimiter, spaced)
    try:
        header: list[str] = next(layout.reader(_between(lines, start, len(lines))), [])
    except csv.Error:
        header = parts
    names = [" ".join(unicodedata.normalize("NFKC", name).lstrip("\ufeff").split()) for name in header]
    while len(names) > 1 and not names[-1]:
        names.pop()
    named = tuple(name or f"column {place}" for place, name in enumerate(names, start=1))
    return Layout(start, named, delimiter, spaced)


def _fitting(lines: Sequence[str], layout: Layout) -> int:
    """How many of the first rows have as many fields as the header."""
    probed = _parsed(lines, layout, layout.header, min(len(lines), layout.header + _PROBED))
    return sum(isinstance(_entry(row, layout), Record) for row in probed)


def _between(lines: Sequence[str], start: int, stop: int) -> Iterator[str]:
    """The lines from one place to another, without a copy."""
    return (lines[place] for place in range(start, stop))


def _parsed(lines: Sequence[str], layout: Layout, start: int, stop: int) -> Iterator[Parsed]:
    """The rows from one place in the lines to another, less the header.

    After a row that cannot be read, reading begins afresh on the next line.
    """
    place = start
    while place < stop:
        base = place
        rows = layout.reader(_between(lines, base, stop))
        try:
            for row in rows:
                if place != layout.header:
                    yield Parsed(place + 1, base + rows.line_num, row)
                place = base + rows.line_num
        except csv.Error as error:
            yield Parsed(place + 1, place + 1, _reason(str(error), base + rows.line_num - place))
            place += 1


def _reason(error: str, lines: int) -> str:
    if "end of data" in error:
        return "a quote opens in this row and is never closed"
    if "expected after" in error:
        over = f", {lines - 1} lines further on," if lines > 1 else ""
        return f'a quoted field goes on{over} after its quote; close it, and write a quote inside it twice ("")'
    return f"{error}; check the quotes"


def _without_swallowed(lines: Sequence[str], layout: Layout, parsed: Sequence[Parsed]) -> Iterator[Parsed]:
    """The rows, with those apart that a quote which was never closed took in."""
    known = _Known(layout, [row.fields for row in parsed if row.last == row.line and isinstance(row.fields, list)])
    for row in parsed:
        taken = lines[row.line - 1 : row.last]
        if len(taken) > 1 and known.are_rows(taken):
            yield Parsed(row.line, row.line, f"a quote opens in this row and takes in {len(taken) - 1} rows below it")
            yield from _parsed(lines, layout, row.line, row.last)
        else:
            yield row


class _Known:
    """What the columns of a table hold: values that come again, or numbers."""

    def __init__(self, layout: Layout, rows: Sequence[list[str]]) -> None:
        self._delimiter, self._width = layout.delimiter, len(layout.columns)
        columns = list(zip(*(row for row in rows if len(row) == self._width), strict=True))
        self._values = [{value.strip() for value in column} for column in columns]
        self._numbers = [all(map(_is_number, values)) for values in self._values]

    def are_rows(self, lines: Sequence[str]) -> bool:
        """Whether each line, read without regard to quotes, is a row, and one column has values like its others."""
        rows = [line.rstrip("\r\n").split(self._delimiter) for line in lines if line.strip()]
        if self._width < 2 or not self._values or any(len(row) != self._width for row in rows):
            return False
        return any(self._has(place, [row[place].strip() for row in rows]) for place in range(self._width))

    def _has(self, place: int, values: Sequence[str]) -> bool:
        if self._numbers[place] and all(map(_is_number, values)):
            return True
        return all(value in self._values[place] or values.count(value) > 1 for value in values)


def _is_number(text: str) -> bool:
    try:
        return bool(text.strip()) and math.isfinite(float(text))
    except ValueError:
        return False


def _fitted(row: list[str], layout: Layout) -> list[str] | str:
    """As many fields as the header has, none where all are blank; a text says why it cannot be."""
    width = len(layout.columns)
    if not any(field.strip() for field in row):
        return []
    while len(row) > width and not row[-1].strip():
        row = row[:-1]
    if len(row) == width:
        return row
    hint = f"; a field that holds {DELIMITERS[layout.delimiter]} must stand in quotes" if len(row) > width else ""
    return f"{len(row)} field{'s' * (len(row) != 1)} where the header has {width}{hint}"
