"""Answers for a person, as JSON lines or as CSV, to stdout or to a file."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO

from edgelm.inputs import Item, Problem
from edgelm.spreadsheet import TableWriter
from edgelm_runtime.results import (
    ClassificationResult,
    EmbeddingResult,
    SentimentResult,
    TaggingResult,
    TextResult,
)
from edgelm_runtime.visible import visible

Result = SentimentResult | ClassificationResult | TaggingResult | EmbeddingResult | TextResult
KINDS = (".txt", ".jsonl", ".csv")
_OWN = ("line", "piece", "error", "receipt")  # fields of JSON lines beside those of a result


@dataclass(frozen=True)
class Style:
    """What was asked for of the answers: the other columns that a table has, and whether its cells are left raw."""

    columns: tuple[str, ...] = ()
    raw_csv: bool = False


class Writer(ABC):
    """Takes the answers in their order, and what has none."""

    @abstractmethod
    def answer(self, item: Item, result: Result, receipt: Mapping[str, Any] | None = None) -> None:
        """Write an answer; ``receipt`` is how its bundle was loaded, where that is to be said."""

    @abstractmethod
    def refused(self, problem: Problem) -> None:
        """Take note of an input that has no answer; stderr names it in any case."""

    @abstractmethod
    def piece(self, item: Item, text: str) -> None:
        """Write a part of an answer that is still being made."""


class TextWriter(Writer):
    """Writes ``positive  0.98``, the labels that hold, the entities, the vector, or the text (each variant on a line).

    With ``one_line``, line ends inside an answer become spaces, so that answers stay one a line. Control characters of
    labels, and on a terminal of texts, are written as Python writes them, so that no answer steers a terminal.
    """

    def __init__(self, stream: TextIO, *, one_line: bool) -> None:
        self._stream = stream
        self._shown: Callable[[str], str] = partial(visible, keep="\n\t") if stream.isatty() else str
        self._one_line = one_line
        self._begun = False

    def answer(self, item: Item, result: Result, receipt: Mapping[str, Any] | None = None) -> None:
        if self._begun:
            self.end()
            return
        for text in _texts(result):
            self._stream.write(self._shown(" ".join(text.splitlines()) if self._one_line else text) + "\n")

    def refused(self, problem: Problem) -> None:
        self.end()

    def piece(self, item: Item, text: str) -> None:
        self._stream.write(self._shown(text))
        self._stream.flush()
        self._begun = True

    def end(self) -> None:
        """End the line of an answer that came in pieces."""
        if self._begun:
            self._stream.write("\n")
            self._stream.flush()
        self._begun = False


def _texts(result: Result) -> tuple[str, ...]:
    """What a person reads of an answer; several only of several variants."""
    match result:
        case SentimentResult():
            return (f"{visible(result.label)}  {result.score:.2f}",)
        case ClassificationResult():
            return ("; ".join(f"{visible(label)}  {score:.2f}" for label, score in _held(result)) or "no label",)
        case TaggingResult():
            found = (f"{visible(one.label)} {one.text!r}  {one.score:.2f}" for one in result.entities)
            return ("; ".join(found) or "nothing",)
        case EmbeddingResult():
            return (" ".join(f"{number:.6g}" for number in result.embedding),)
    return result.variants or (result.text,)


def _held(result: ClassificationResult) -> list[tuple[str, float]]:
    """The labels that hold with their scores, the most probable first; the numbers of a regression."""
    if result.is_regression:
        return list(result.scores.items())
    return sorted(((label, result.scores[label]) for label in result.labels), key=lambda held: -held[1])


class JsonWriter(Writer):
    """Writes one JSON object an input, with the ``line`` that it came from where it came from a file or a pipe.

    What stood beside the input is among the fields, under ``input.NAME`` where the answer has such a field itself. An
    input without an answer has ``error`` with ``type`` and ``message``, a part of an answer has ``piece``.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def answer(self, item: Item, result: Result, receipt: Mapping[str, Any] | None = None) -> None:
        fields = result.to_dict()
        last = {} if receipt is None else {"receipt": receipt}
        self._write({**_head(item, fields), **fields, **last})

    def refused(self, problem: Problem) -> None:
        error = {"type": problem.type, "message": problem.message}
        self._write({**_head(problem, ()), "error": error})

    def piece(self, item: Item, text: str) -> None:
        self._write({**_head(item, ()), "piece": text})
        self._stream.flush()

    def _write(self, fields: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(fields, ensure_ascii=False) + "\n")


def _head(entry: Item | Problem, taken: Iterable[str]) -> dict[str, Any]:
    """The fields of an object that are not of the answer."""
    line = {} if entry.line is None else {"line": entry.line}
    names = beside_names(tuple(entry.beside), {*_OWN, *taken})
    return {**line, **{names[name]: value for name, value in entry.beside.items()}}


def beside_names(columns: Sequence[str], taken: Collection[str]) -> dict[str, str]:
    """The names under which columns of the input stand beside an answer: their own, or input.NAME where it is taken."""
    names: dict[str, str] = {}
    used = set(taken)
    for column in columns:
        name = column
        while name in used:
            name = f"input.{name}"
        names[column] = name
        used.add(name)
    return names


class CsvWriter(Writer):
    """Writes a header, then ``line, input``, the answer, and the other columns of the input.

    There is a row for each label that holds, entity, or variant.
    """

    def __init__(self, stream: TextIO, style: Style) -> None:
        self._rows = TableWriter(stream, raw=style.raw_csv)
        self._beside = style.columns
        self._begun = False

    def answer(self, item: Item, result: Result, receipt: Mapping[str, Any] | None = None) -> None:
        columns, answers = _columns(result)
        if not self._begun:
            own = ["line", "input", *columns]
            self._rows.row([*own, *beside_names(self._beside, own).values()])
            self._begun = True
        for answer in answers:
            self._rows.row([item.line, input_text(item), *answer, *(item.beside.get(name) for name in self._beside)])

    def refused(self, problem: Problem) -> None:
        """Nothing: a table has answers alone."""

    def piece(self, item: Item, text: str) -> None:
        """Nothing: a table has whole answers."""


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
    """The input as one text; attributes as ``name: value; name: value``, a pair with ``|`` and words with blanks."""
    if isinstance(item.value, tuple):
        return " | ".join(item.value)
    if isinstance(item.value, list):
        return " ".join(item.value)
    if isinstance(item.value, Mapping):
        return "; ".join(f"{name}: {value}" for name, value in item.value.items())
    return item.value


def file_writer(kind: str, stream: TextIO, style: Style) -> Writer:
    """The writer for a file of the given kind: ``.txt``, ``.jsonl`` or ``.csv``."""
    if kind == ".jsonl":
        return JsonWriter(stream)
    return CsvWriter(stream, style) if kind == ".csv" else TextWriter(stream, one_line=True)
