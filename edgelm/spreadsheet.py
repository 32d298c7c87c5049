"""Tables that a spreadsheet program opens: as text, whatever the cells say, and in the right encoding."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from typing import Any, TextIO

# What Excel, LibreOffice and Google Sheets compute when a file is opened (CWE-1236), in full width as well.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)*([eE][+-]?\d+)?%?")


class TableWriter:
    """Writes rows of comma-separated values.

    A cell that a program would compute begins with an apostrophe, unless ``raw``; numbers are left as they are.
    """

    def __init__(self, stream: TextIO, *, raw: bool = False) -> None:
        self._rows = csv.writer(stream, lineterminator="\n")
        self._quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._raw = raw

    def row(self, cells: Sequence[Any]) -> None:
        """Write one row; objects and lists are written as JSON, and what is None is left blank."""
        texts = [_text(cell) if self._raw else harmless(_text(cell)) for cell in cells]
        # Python before 3.13 leaves a carriage return unquoted, which ends the row for who reads it.
        rows = self._quoted if any("\r" in text for text in texts) else self._rows
        rows.writerow(texts)


def harmless(text: str) -> str:
    """A cell that no spreadsheet program computes."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _text(cell: Any) -> str:
    if isinstance(cell, dict | list | bool):
        return json.dumps(cell, ensure_ascii=False)
    return "" if cell is None else str(cell)
