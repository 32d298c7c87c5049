"""Reading inputs: an argument, or the rows of a .txt, .jsonl, .csv or .tsv file, as numbered items.

Nothing here knows a model. A row that cannot be used becomes a ``Problem`` with its line, and the others stay usable;
what makes the whole input unusable (an unknown encoding, no such column) raises ``InputError``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgelm_runtime import files
from edgelm_runtime.errors import InputError
from edgelm_runtime.files.content import read_bytes
from edgelm_runtime.files.lines import json_kind

Value = str | tuple[str, str] | list[str] | Mapping[str, object]
READ_ATTRIBUTES = frozenset(["description"])
READ_PAIRS = frozenset(["classify"])
READ_WORDS = frozenset(["tag"])
_SMUGGLED_BYTES = re.compile("[\udc80-\udcff]")  # how Python hands over argument bytes that are not UTF-8


@dataclass(frozen=True)
class Item:
    """One input: a text, a pair or attributes, and its line number counted from 1 (None: given as an argument).

    ``beside`` are the other columns of its row, or the ``id`` of a request, which its answer keeps; ``options`` are
    generation options of its own.
    """

    value: Value
    line: int | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """One input that has no answer, its line, why, and the name of the error that says so."""

    line: int | None
    message: str
    beside: Mapping[str, Any] = field(default_factory=dict)
    type: str = InputError.__name__


@dataclass(frozen=True)
class Inputs:
    """What an input holds: usable and unusable rows in order, how many lines were blank, and what is to be said.

    ``columns`` are those that items have beside what is read.
    """

    entries: tuple[Item | Problem, ...]
    blank: int = 0
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def items(self) -> tuple[Item, ...]:
        """The usable rows."""
        return tuple(entry for entry in self.entries if isinstance(entry, Item))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The unusable rows."""
        return tuple(entry for entry in self.entries if isinstance(entry, Problem))


@dataclass(frozen=True)
class Reader:
    """What is taken from a row: a column and, for a task that reads attributes, objects or else the row itself.

    With ``pair_column``, a row that has it gives a pair of texts. With ``words``, a text may be a list of its words,
    which a row may also have as ``tokens``.
    """

    column: str
    pair_column: str | None = None
    attributes: bool = False
    whole_row: bool = False
    words: bool = False

    def item(self, row: str | Mapping[str, Any], line: int) -> Item:
        """The input of one row. Raises InputError where it has none."""
        if isinstance(row, str):
            return Item(row, line)
        column = "tokens" if self.words and self.column not in row and "tokens" in row else self.column
        if column not in row and not self.whole_row:
            raise InputError(f"no field {self.column!r}; found are {_names(row)}; choose one with --column")
        if column not in row:
            blank = {name for name, value in row.items() if isinstance(value, str) and not value.strip()}
            return Item({name: value for name, value in row.items() if name not in blank}, line)
        value = self._checked(column, row[column])
        read = {column}
        if self.pair_column and row.get(self.pair_column) is not None:
            pair = row[self.pair_column]
            if not isinstance(value, str) or not isinstance(pair, str):
                raise InputError(f"{self.pair_column} is a JSON {json_kind(pair)}; a string is accepted")
            value, read = (value, pair), {column, self.pair_column}
        return Item(value, line, {name: other for name, other in row.items() if name not in read})

    def _checked(self, column: str, value: Any) -> Value:
        """The value of a column. Raises InputError for one of another kind."""
        if isinstance(value, str) or (isinstance(value, Mapping) and self.attributes):
            return value
        if isinstance(value, list) and self.words and all(isinstance(word, str) for word in value):
            return value
        other = " or an object" * self.attributes + " or a list of strings" * self.words
        raise InputError(f"{column} is a JSON {json_kind(value)}; a string{other} is accepted")


def reader_for(task: str, column: str | None) -> Reader:
    """The column that is read: the one asked for, else ``text``, else for description ``attributes`` or the row."""
    attributes = task in READ_ATTRIBUTES
    pair = "text_pair" if task in READ_PAIRS else None
    words = task in READ_WORDS
    if column is not None:
        return Reader(column, pair, attributes, words=words)
    return Reader("attributes" if attributes else "text", pair, attributes, whole_row=attributes, words=words)


def phrases(path: Path) -> tuple[str, ...]:
    """The phrases of a text file, one a line; blank lines and those that begin with "#" are left out.

    Raises:
        InputError: no such file, or an encoding that is not known.
    """
    from edgelm_runtime.tasks.words import read_phrases

    return read_phrases(files.decode(read_bytes(path), path))


def read_file(path: Path, reader: Reader) -> Inputs:
    """Read a .txt, .jsonl, .csv or .tsv file, each also .gz.

    Raises:
        InputError: no such file, another kind, an encoding that is not known (with the command that mends it), no such
            column (with those found), or nothing in it.
    """
    found = files.read_rows(path)
    if found.columns and reader.column not in found.columns and not reader.whole_row:
        raise InputError(
            f"{path}: no column {reader.column!r}; found are {_names(found.columns)}; choose one with --column"
        )
    if not found.entries:
        raise InputError(f"{path}: holds no input; one a line is accepted")
    entries = tuple(_entry(entry, reader) for entry in found.entries)
    columns = dict.fromkeys(name for entry in entries for name in entry.beside)
    return Inputs(entries, found.blank, tuple(columns), found.notes)


def _entry(entry: files.Record | files.Problem, reader: Reader) -> Item | Problem:
    if isinstance(entry, files.Problem):
        return Problem(entry.line, entry.message)
    try:
        return reader.item(entry.value, entry.line)
    except InputError as error:
        return Problem(entry.line, str(error))


def argument(text: str, pair: str | None = None) -> Item:
    """One input given on the command line, with the second text of a pair if there is one.

    Raises:
        InputError: the argument's bytes are not UTF-8.
    """
    if pair is not None:
        return Item((_readable(text, "TEXT"), _readable(pair, "--pair")))
    return Item(_readable(text, "TEXT"))


def _readable(text: str, name: str) -> str:
    smuggled = _SMUGGLED_BYTES.search(text)
    if smuggled:
        position = len(text[: smuggled.start()].encode("utf-8", "surrogateescape"))
        raise InputError(
            f"{name}: not UTF-8 at byte {position} (value 0x{ord(smuggled.group()) - 0xDC00:02x}); "
            "the terminal's encoding must be UTF-8"
        )
    return text


def _names(names: Mapping[str, Any] | tuple[str, ...]) -> str:
    return ", ".join(map(repr, names)) or "none"
