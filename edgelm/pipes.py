"""Inputs from a pipe: lines as they come, each of them text or, for a program, a request as a JSON object.

A line is bounded, and memory is linear in it. What is wrong with one line is a ``Problem`` of that line alone.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from edgelm.inputs import Inputs, Item, Problem, Reader
from edgelm_runtime.errors import InputError
from edgelm_runtime.files import decode
from edgelm_runtime.files.encoding import MARKS, marked
from edgelm_runtime.files.lines import json_kind, parse_json

# Above the longest text that is accepted, 2,000,000 characters, as \uXXXX in JSON.
MAX_LINE_BYTES = 16 << 20
_READ_AT_ONCE = 1 << 16
_LONGEST_MARK = max(len(mark) for mark, _ in MARKS)
_OBJECT = re.compile(r'\s*\{\s*["}]')
Read = Callable[[str, int], Item | Problem | None]


@dataclass(frozen=True)
class Requests:
    """How the lines of a program are read: each has its answer, and objects are requests.

    A request has ``text`` (and ``text_pair``), or ``attributes``; an ``id`` that comes back, and ``options`` of its
    own. Other lines are texts.
    """

    reader: Reader

    def __call__(self, line: str, number: int) -> Item | Problem:
        if not line.strip():
            return Problem(number, "the line is blank; send a text, or a JSON object with text")
        if not _OBJECT.match(line):
            return Item(line, number)
        try:
            row = parse_json(line)
        except InputError as error:
            return Problem(number, f'{error}; a text that begins like an object is sent as {{"text": "..."}}')
        return self._request(row, number) if isinstance(row, dict) else Item(row, number)

    def _request(self, row: dict[str, Any], number: int) -> Item | Problem:
        if self.reader.whole_row and "attributes" not in row and set(row) - {"id", "text", "options"}:
            return self.reader.item(row, number)  # the attributes themselves
        given, beside = row.get("id"), {}
        try:
            if isinstance(given, dict | list):
                raise InputError(f"id is a JSON {json_kind(given)}; a string or a number is accepted")
            beside = {"id": given} if "id" in row else {}
            column = self.reader.column if self.reader.column in row else "text"
            item = replace(self.reader, column=column, whole_row=False).item(row, number)
            options = self._options(row, item)
            return Item(item.value, number, beside, options)
        except InputError as error:
            return Problem(number, str(error).replace("; choose one with --column", ""), beside)

    def _options(self, row: Mapping[str, Any], item: Item) -> Mapping[str, Any]:
        """The options of a request. Raises InputError for those and for fields that cannot be."""
        others = [name for name in item.beside if name not in ("id", "options")]
        if others:
            fields = ["id", self.reader.column, *filter(None, [self.reader.pair_column]), "options"]
            fields += ["tokens"] * self.reader.words
            raise InputError(
                f"the request has {', '.join(map(repr, others))}; accepted are {', '.join(fields)}, and generation "
                "options inside options"
            )
        options = row.get("options", {})
        if not isinstance(options, dict):
            raise InputError(f"options is a JSON {json_kind(options)}; an object is accepted")
        return options


def text_line(line: str, number: int) -> Item | None:
    """How the lines of a person are read: each is a text, and blank ones are passed over."""
    return Item(line, number) if line.strip() else None


def lines_as_they_come(stream: BinaryIO, read: Read) -> Iterator[Inputs]:
    """The lines of a pipe in groups of what is there, so that a slow writer is answered at once.

    UTF-16 is read where its byte order mark comes first. A line over MAX_LINE_BYTES is a problem, and not kept.
    """
    number, start = 1, 0
    for lines in _whole_lines(_as_utf8(stream)):
        entries = []
        for line in lines:
            entries.append(_read_line(line, number, start, read))
            number, start = number + 1, start + line.size
        yield Inputs(tuple(entry for entry in entries if entry is not None), entries.count(None))


@dataclass(frozen=True)
class Line:
    """A line of a pipe: its bytes, None where they were too many to be kept, and how many they are with its end."""

    content: bytes | None
    size: int


def _read_line(line: Line, number: int, start: int, read: Read) -> Item | Problem | None:
    if line.content is None:
        return Problem(number, f"the line has {line.size:,} bytes, at most {MAX_LINE_BYTES:,} are accepted; send less")
    try:
        return read(decode(line.content, "stdin", number, start).removesuffix("\r"), number)
    except InputError as error:
        return Problem(number, str(error).removeprefix("stdin: "))


def _whole_lines(pieces: Iterator[bytes]) -> Iterator[list[Line]]:
    """The lines that each piece completes, and at the end what is left."""
    waiting, size = bytearray(), 0
    for piece in pieces:
        lines = []
        for part in re.findall(rb"[^\n]*\n|[^\n]+", piece):
            size += len(part)
            if size <= MAX_LINE_BYTES:
                waiting += part
            if part.endswith(b"\n"):
                kept = None if size > MAX_LINE_BYTES else bytes(waiting[:-1])
                lines.append(Line(kept, size))
                waiting, size = bytearray(), 0
        if lines:
            yield lines
    if size:
        yield [Line(None if size > MAX_LINE_BYTES else bytes(waiting), size)]


def _as_utf8(stream: BinaryIO) -> Iterator[bytes]:
    """The bytes of a stream as they come, as UTF-8 where they begin with the mark of UTF-16 or UTF-32."""
    read = getattr(stream, "read1", stream.read)
    first: bytes = read(_READ_AT_ONCE)
    while 0 < len(first) < _LONGEST_MARK and any(mark.startswith(first[: len(mark)]) for mark, _ in MARKS):
        more: bytes = read(_READ_AT_ONCE)
        if not more:
            break
        first += more
    codec = marked(first)
    yield from _transcoded(first, read, codec) if codec else _on(first, read)


def _on(piece: bytes, read: Callable[[int], bytes]) -> Iterator[bytes]:
    while piece:
        yield piece
        piece = read(_READ_AT_ONCE)


def _transcoded(first: bytes, read: Callable[[int], bytes], codec: str) -> Iterator[bytes]:
    # What is half a character becomes bytes that are not UTF-8, so that its line is refused.
    decoder = codecs.getincrementaldecoder(codec)(errors="surrogatepass")
    for piece in _on(first, read):
        yield decoder.decode(piece).encode("utf-8", "surrogatepass")
    if decoder.getstate()[0]:
        yield b"\xff"
