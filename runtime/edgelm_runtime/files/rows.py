"""What a file of rows holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Record:
    """One row and the line that it begins on, counted from 1.

    `value` is the line of a .txt file, the string or object of a .jsonl one, or the fields of a table by column.
    """

    line: int
    value: str | Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """A row that cannot be used, the line that it begins on (None: no line), and why."""

    line: int | None
    message: str


@dataclass(frozen=True)
class Rows:
    """The rows of a file in order, usable or not; the columns of a table; what was passed over, and what is to be said.

    `blank` counts lines without content.
    """

    entries: tuple[Record | Problem, ...]
    columns: tuple[str, ...] = ()
    blank: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def records(self) -> tuple[Record, ...]:
        """The rows that can be used."""
        return tuple(entry for entry in self.entries if isinstance(entry, Record))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The rows that cannot."""
        return tuple(entry for entry in self.entries if isinstance(entry, Problem))
