"""Reading inputs: bytes of a .txt, .jsonl or .csv file, or lines of a pipe, into numbered items.

Nothing here knows a model. A line that cannot be used becomes a ``Problem`` with its number, and the others stay
usable; what makes the whole input unusable (not UTF-8, no such column) raises ``InputError``.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from edgelm_runtime.errors import InputError

Value = str | tuple[str, str] | Mapping[str, object]
KINDS = (".txt", ".jsonl", ".csv")
READ_ATTRIBUTES = frozenset(["description"])
READ_PAIRS = frozenset(["classify"])
_READ_AT_ONCE = 1 << 16
_SMUGGLED_BYTES = re.compile("[\udc80-\udcff]")  # how Python hands over argument bytes that are not UTF-8


@dataclass(frozen=True)
class Item:
    """One input: a text, a pair or attributes, and its line number counted from 1 (None: given as an argument)."""

    value: Value
    line: int | None = None


@dataclass(frozen=True)
class Problem:
    """One line that cannot be answered, and why."""

    line: int | None
    message: str


@dataclass(frozen=True)
class Inputs:
    """What an input holds: the usable items in order, the unusable lines, and how many lines were blank."""

    items: tuple[Item, ...]
    problems: tuple[Problem, ...] = ()
    blank: int = 0


@dataclass(frozen=True)
class Reader:
    """What is taken from a row: a column and, for a task that reads attributes, objects or else the row itself.

    With ``pair_column``, a row that has it gives a pair of texts.
    """

    column: str
    pair_column: str | None = None
    attributes: bool = False
    whole_row: bool = False


def reader_for(task: str, column: str | None) -> Reader:
    """The column that is read: the one asked for, else ``text``, else for description ``attributes`` or the row."""
    attributes = task in READ_ATTRIBUTES
    pair = "text_pair" if task in READ_PAIRS else None
    if column is not None:
        return Reader(column, pair, attributes)
    return Reader("attributes" if attributes else "text", pair, attributes, whole_row=attributes)


def phrases(path: Path) -> tuple[str, ...]:
    """The phrases of a text file, one a line; blank lines and those that begin with "#" are left out.

    Raises:
        InputError: no such file, or not UTF-8.
    """
    from edgelm_runtime.tasks.words import read_phrases

    return read_phrases(decode(_read(path), str(path)))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def read_file(path: Path, reader: Reader) -> Inputs:
    """Read a .txt, .jsonl or .csv file.

    Raises:
        InputError: no such file, another kind, not UTF-8 (with the position), no such column (with those found),
            or nothing in it.
    """
    kind = kind_of(path)
    text = decode(_read(path), str(path))
    if kind == ".csv":
        inputs = parse_csv(text, reader, str(path))
    else:
        inputs = parse_lines(text.split("\n"), reader if kind == ".jsonl" else None)
    if not inputs.items and not inputs.problems:
        raise InputError(f"{path}: holds no input; one a line is accepted")
    return inputs


def kind_of(path: Path) -> str:
    """The kind of a file by its suffix.

    Raises:
        InputError: any other suffix.
    """
    kind = path.suffix.lower()
    if kind not in KINDS and path.is_dir():
        raise InputError(f"{path}: is a folder; give a file, accepted are {', '.join(KINDS)}")
    if kind not in KINDS:
        raise InputError(f"{path}: files of kind {kind or 'without a suffix'!r}; accepted are {', '.join(KINDS)}")
    return kind


def decode(data: bytes, source: str, first_line: int = 1, first_byte: int = 0) -> str:
    """Decode UTF-8, with or without a byte order mark.

    Raises:
        InputError: not UTF-8; says the byte and the line, counted from the given first ones.
    """
    try:
        return data.decode("utf-8-sig" if first_byte == 0 else "utf-8")
    except UnicodeDecodeError as error:
        # with utf-8-sig the position does not count the byte order mark
        offset = error.start + (len(data) - len(error.object))
        line = first_line + data.count(b"\n", 0, offset)
        raise InputError(
            f"{source}: not UTF-8 at byte {first_byte + offset} (line {line}, value 0x{data[offset]:02x}); "
            "save it as UTF-8 and try again"
        ) from error


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


def parse_lines(lines: list[str], json_reader: Reader | None = None, first_line: int = 1) -> Inputs:
    """One input a line: the line itself or, with a reader, a JSON string or object. Blank lines are counted only."""
    items: list[Item] = []
    problems: list[Problem] = []
    blank = 0
    for number, line in enumerate(lines, start=first_line):
        line = line.removesuffix("\r")
        if not line.strip():
            blank += number < first_line + len(lines) - 1 or line != ""  # what follows the last line end is no line
            continue
        try:
            items.append(Item(line if json_reader is None else _json_value(line, json_reader), number))
        except InputError as error:
            problems.append(Problem(number, str(error)))
    return Inputs(tuple(items), tuple(problems), blank)


def _json_value(line: str, reader: Reader) -> Value:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON ({error}); a string or an object is accepted") from error
    if isinstance(row, str):
        return row
    if not isinstance(row, dict):
        raise InputError(f"a JSON {_json_kind(row)}; a string or an object is accepted")
    if reader.column in row:
        value = row[reader.column]
    elif reader.whole_row:
        value = row
    else:
        raise InputError(f"no field {reader.column!r}; found are {_names(row)}; choose one with --column")
    pair = row.get(reader.pair_column) if reader.pair_column else None
    if isinstance(value, str) and isinstance(pair, str):
        return value, pair
    if isinstance(value, str) or (isinstance(value, dict) and reader.attributes):
        return value
    accepted = "a string or an object" if reader.attributes else "a string"
    raise InputError(f"{reader.column} is a JSON {_json_kind(value)}; {accepted} is accepted")


def _json_kind(value: Any) -> str:
    return {dict: "object", list: "array", bool: "boolean", type(None): "null"}.get(type(value), "number")


def parse_csv(text: str, reader: Reader, source: str) -> Inputs:
    """Rows below a header line, separated by commas; quoted fields may hold line ends.

    Raises:
        InputError: no header, no such column (the ones found are named), or quoting that cannot be read.
    """
    csv.field_size_limit(max(len(text), csv.field_size_limit()))  # never below that of others in this process
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    items: list[Item] = []
    problems: list[Problem] = []
    try:
        header = [name.strip() for name in next(rows, [])]
        if not header:
            raise InputError(f"{source}: empty; a header line with the column names is needed")
        if reader.column not in header and not reader.whole_row:
            raise InputError(
                f"{source}: no column {reader.column!r}; found are {_names(header)}; choose one with --column"
            )
        end = rows.line_num
        for row in rows:
            line, end = end + 1, rows.line_num
            if not row:
                continue
            if len(row) != len(header):
                problems.append(Problem(line, f"{len(row)} fields where the header has {len(header)}"))
                continue
            items.append(Item(_csv_value(dict(zip(header, row, strict=True)), reader), line))
    except csv.Error as error:
        raise InputError(f"{source}, line {rows.line_num}: {error}; check the quotes") from error
    return Inputs(tuple(items), tuple(problems))


def _csv_value(row: dict[str, str], reader: Reader) -> Value:
    if reader.pair_column in row and reader.column in row:
        return row[reader.column], row[reader.pair_column]
    if reader.column in row:
        return row[reader.column]
    return {name: value for name, value in row.items() if value.strip()}


def _names(names: Mapping[str, Any] | list[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def _decoded_lines(lines: list[bytes], first_line: int, first_byte: int) -> tuple[list[str], list[Problem]]:
    """The lines as text, blank where one is not UTF-8, and what is wrong with those."""
    texts: list[str] = []
    problems: list[Problem] = []
    for number, raw in enumerate(lines, start=first_line):
        try:
            texts.append(decode(raw, "stdin", number, first_byte))
        except InputError as error:
            texts.append("")
            problems.append(Problem(number, str(error)))
        first_byte += len(raw) + 1
    return texts, problems


def lines_as_they_come(stream: BinaryIO) -> Iterator[Inputs]:
    """One input a line from a pipe, in groups of what is there, so that a slow writer is answered at once.

    A line that is not UTF-8 is a problem of its own: the worker behind the pipe goes on.
    """
    waiting, line, start = b"", 1, 0
    read = getattr(stream, "read1", stream.read)
    while True:
        piece: bytes = read(_READ_AT_ONCE)
        waiting += piece
        whole = len(waiting) if not piece else waiting.rfind(b"\n") + 1
        if whole:
            lines, problems = _decoded_lines(waiting[:whole].split(b"\n"), line, start)
            found = parse_lines(lines, first_line=line)
            # A line that could not be read stands there blank.
            yield replace(found, problems=(*found.problems, *problems), blank=found.blank - len(problems))
            line, start, waiting = line + len(lines) - 1, start + whole, waiting[whole:]
        if not piece:
            return
