"""Rows that are lines: of text, or of JSON."""

from __future__ import annotations

import json
from typing import Any

from ..errors import InputError
from .rows import Problem, Record, Rows


def split_lines(text: str) -> list[str]:
    """The lines of a text, which end at line feeds alone, or at carriage returns where there is no line feed.

    What follows the last line end is no line where it is empty.
    """
    end = "\r" if "\r" in text and "\n" not in text else "\n"
    lines = text.split(end)
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def parse_lines(text: str, *, is_json: bool) -> Rows:
    """One row a line: the line itself, or a JSON string or object. Blank lines are counted only."""
    entries: list[Record | Problem] = []
    blank = 0
    for number, line in enumerate(split_lines(text), start=1):
        if not line.strip():
            blank += 1
            continue
        try:
            entries.append(Record(number, parse_json(line) if is_json else line))
        except InputError as error:
            entries.append(Problem(number, str(error)))
    return Rows(tuple(entries), blank=blank)


def parse_json(line: str) -> str | dict[str, Any]:
    """A JSON string or object. NaN and Infinity, which are none of JSON's, are read as null.

    Raises InputError for anything else.
    """
    try:
        row = json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON ({error}); a string or an object is accepted") from error
    if isinstance(row, str | dict):
        return row
    raise InputError(f"a JSON {json_kind(row)}; a string or an object is accepted")


def json_kind(value: Any) -> str:
    """What a value is called in JSON."""
    kinds = {dict: "object", list: "array", bool: "boolean", type(None): "null", str: "string"}
    return kinds.get(type(value), "number")
