"""Answers for a person, as JSON lines or as CSV, on stdout or in a file that is whole or absent."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from edgelm.inputs import Item
from edgelm_runtime.results import SentimentResult, TextResult

Result = SentimentResult | TextResult
Writer = Callable[[Item, Result], None]
Receipts = Callable[[Result], Mapping[str, Any]]


def text_writer(stream: TextIO, *, one_line: bool) -> Writer:
    """Write ``positive  0.98``, or the text (each variant on its own line).

    With ``one_line``, line ends inside an answer become spaces, so that answers stay one a line.
    """

    def write(item: Item, result: Result) -> None:
        if isinstance(result, SentimentResult):
            stream.write(f"{result.label}  {result.score:.2f}\n")
            return
        for text in result.variants or (result.text,):
            stream.write((" ".join(text.splitlines()) if one_line else text) + "\n")

    return write


def json_writer(stream: TextIO, receipt: Receipts) -> Writer:
    """Write one JSON object an input, with the ``line`` that it came from where it came from a file or a pipe.

    ``receipt`` says of a result how the bundle that gave it was loaded.
    """

    def write(item: Item, result: Result) -> None:
        line = {} if item.line is None else {"line": item.line}
        whole = {**line, **result.to_dict(), "receipt": receipt(result)}
        stream.write(json.dumps(whole, ensure_ascii=False) + "\n")

    return write


def csv_writer(stream: TextIO) -> Writer:
    """Write a header, then ``line, input, label, score`` or ``line, input, text`` (one row a variant)."""
    rows = csv.writer(stream, lineterminator="\n")
    state = {"header": False}

    def write(item: Item, result: Result) -> None:
        classified = isinstance(result, SentimentResult)
        if not state["header"]:
            rows.writerow(["line", "input", "label", "score"] if classified else ["line", "input", "text"])
            state["header"] = True
        given = [item.line or "", input_text(item)]
        if isinstance(result, SentimentResult):
            rows.writerow([*given, result.label, f"{result.score:.4f}"])
            return
        for text in result.variants or (result.text,):
            rows.writerow([*given, text])

    return write


def input_text(item: Item) -> str:
    """The input as one text; attributes as ``name: value; name: value``."""
    if isinstance(item.value, Mapping):
        return "; ".join(f"{name}: {value}" for name, value in item.value.items())
    return item.value


def file_writer(kind: str, stream: TextIO, receipt: Receipts) -> Writer:
    """The writer for a file of the given kind: ``.txt``, ``.jsonl`` or ``.csv``."""
    if kind == ".jsonl":
        return json_writer(stream, receipt)
    return csv_writer(stream) if kind == ".csv" else text_writer(stream, one_line=True)


@contextmanager
def atomic_text_file(path: Path) -> Iterator[TextIO]:
    """A UTF-8 file that appears under its name only when it is complete; on any exception nothing is left.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
