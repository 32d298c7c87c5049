"""Answers for a person, as JSON lines or as CSV, on stdout or in a file that is whole or absent."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import click

from edgelm.inputs import Item
from edgelm_runtime.results import (
    ClassificationResult,
    EmbeddingResult,
    SentimentResult,
    TaggingResult,
    TextResult,
)

Result = SentimentResult | ClassificationResult | TaggingResult | EmbeddingResult | TextResult
Writer = Callable[[Item, Result], None]
KINDS = (".txt", ".jsonl", ".csv")
Receipts = Callable[[Result], Mapping[str, Any]]


def text_writer(stream: TextIO, *, one_line: bool) -> Writer:
    """Write ``positive  0.98``, the labels that hold, the entities, the vector, or the text (each variant on a line).

    With ``one_line``, line ends inside an answer become spaces, so that answers stay one a line.
    """

    def write(item: Item, result: Result) -> None:
        for text in _texts(result):
            stream.write((" ".join(text.splitlines()) if one_line else text) + "\n")

    return write


def _texts(result: Result) -> tuple[str, ...]:
    """What a person reads of an answer; several only of several variants."""
    match result:
        case SentimentResult():
            return (f"{result.label}  {result.score:.2f}",)
        case ClassificationResult():
            return ("; ".join(f"{label}  {score:.2f}" for label, score in _held(result)) or "no label",)
        case TaggingResult():
            return ("; ".join(f"{one.label} {one.text!r}  {one.score:.2f}" for one in result.entities) or "nothing",)
        case EmbeddingResult():
            return (" ".join(f"{number:.6g}" for number in result.embedding),)
    return result.variants or (result.text,)


def _held(result: ClassificationResult) -> list[tuple[str, float]]:
    """The labels that hold with their scores, the most probable first; the numbers of a regression."""
    if result.is_regression:
        return list(result.scores.items())
    return sorted(((label, result.scores[label]) for label in result.labels), key=lambda held: -held[1])


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
    """Write a header, then ``line, input`` and the answer: a row for each label that holds, entity, or variant."""
    rows = csv.writer(stream, lineterminator="\n")
    state = {"header": False}

    def write(item: Item, result: Result) -> None:
        header, answers = _columns(result)
        if not state["header"]:
            rows.writerow(["line", "input", *header])
            state["header"] = True
        for answer in answers:
            rows.writerow([item.line or "", input_text(item), *answer])

    return write


def _columns(result: Result) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
    """The names of the columns of an answer, and its rows."""
    match result:
        case SentimentResult():
            return ("label", "score"), [(result.label, f"{result.score:.4f}")]
        case ClassificationResult():
            return ("label", "score"), [(label, f"{score:.4f}") for label, score in _held(result)] or [("", "")]
        case TaggingResult():
            found = [(one.label, f"{one.score:.4f}", one.start, one.end, one.text) for one in result.entities]
            return ("label", "score", "start", "end", "text"), found or [("", "", "", "", "")]
        case EmbeddingResult():
            return [f"v{place}" for place in range(len(result.embedding))], [result.embedding]
    return ("text",), [(text,) for text in result.variants or (result.text,)]


def input_text(item: Item) -> str:
    """The input as one text; attributes as ``name: value; name: value``, a pair with ``|`` between."""
    if isinstance(item.value, tuple):
        return " | ".join(item.value)
    if isinstance(item.value, Mapping):
        return "; ".join(f"{name}: {value}" for name, value in item.value.items())
    return item.value


def file_writer(kind: str, stream: TextIO, receipt: Receipts) -> Writer:
    """The writer for a file of the given kind: ``.txt``, ``.jsonl`` or ``.csv``."""
    if kind == ".jsonl":
        return json_writer(stream, receipt)
    return csv_writer(stream) if kind == ".csv" else text_writer(stream, one_line=True)


def new_file(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """The callback of an option: refuse, before any work, a file that could not be written. Raises BadParameter."""
    if path is None:
        return None
    if path.is_dir():
        raise click.BadParameter(f"{path} is a folder; name a file", context, option)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise click.BadParameter(f"{path}: there is no folder {folder}; make it, or name another file", context, option)
    try:
        with tempfile.TemporaryFile(dir=folder):
            return path
    except OSError as error:
        raise click.BadParameter(
            f"{path}: the folder {folder} cannot be written ({error.strerror}); name another file", context, option
        ) from error


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
