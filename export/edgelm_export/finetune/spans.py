"""Rows of entities: a text and its spans, or words and their tags, as data sets have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from edgelm_export.finetune.data import FileRow, Row, where
from edgelm_export.tagging import tags_of
from edgelm_runtime.errors import InputError
from edgelm_runtime.tasks.entities import grouped, marks_of
from edgelm_runtime.tasks.presplit import Words

Span = tuple[str, int, int]  # label, start, end in characters
SPANS, TAGS = ("entities", "spans"), ("tags", "ner_tags")


@dataclass(frozen=True)
class Tagged:
    """What a model reads, its text, and the right entities by their place."""

    given: str | Words
    text: str
    spans: tuple[Span, ...]


def tagged_rows(rows: Sequence[Row]) -> list[Tagged]:
    """The entities of rows with ``text`` and ``entities`` (or ``spans``), or ``tokens`` and ``tags`` (or ``ner_tags``).

    An entity is an object with ``start``, ``end`` and ``label``, or these three in a list. Tags may be of any scheme
    that an export knows; it is told from the tags of all rows.

    Raises:
        InputError: a row with other fields, entities that overlap or lie outside the text, tags that are not as many
            as the tokens, or numbers where names are needed.
    """
    listed = [(number, row, _first(row, TAGS)) for number, row in enumerate(rows, start=1)]
    every = {tag for number, row, field in listed if field and "tokens" in row for tag in _tags(row, field, number)}
    labels = sorted(every)
    marks = dict(zip(labels, marks_of(labels, tags_of(labels)), strict=True))
    found = []
    for number, row, field in listed:
        if "tokens" in row and field:
            words = _words(row, number)
            tags = _tags(row, field, number)
            if len(tags) != len(words.words):
                found_here = f"{len(words.words)} tokens and {len(tags)} {field}"
                raise InputError(f"{where(row, number)}: {found_here}; give one for each token")
            starts = words.starts
            ends = [start + len(word) for start, word in zip(starts, words.words, strict=True)]
            spans = tuple(
                (kind, starts[first], ends[last - 1]) for kind, first, last in grouped([marks[tag] for tag in tags])
            )
            found.append(Tagged(words, words.text, spans))
        else:
            found.append(_from_text(row, number))
    return found


def entity_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows that name entities, in any of the forms of ``tagged_rows``, each with ``text`` and ``entities``.

    Raises like ``tagged_rows``.
    """
    kept = [row for row in rows if ("tokens" in row and _first(row, TAGS)) or ("text" in row and _first(row, SPANS))]
    made: list[Row] = []
    for number, (row, found) in enumerate(zip(kept, tagged_rows(kept), strict=True), start=1):
        entities = [{"label": label, "start": start, "end": end} for label, start, end in found.spans]
        made.append(FileRow({**row, "text": found.text, "entities": entities}, where(row, number)))
    return made


def _from_text(row: Row, number: int) -> Tagged:
    field = _first(row, SPANS)
    text = row.get("text")
    if field is None or not isinstance(text, str) or not text.strip():
        found = ", ".join(sorted(str(name) for name, value in row.items() if value is not None))
        raise InputError(
            f"{where(row, number)}: the fields needed are text and entities, or tokens and tags; "
            f"found {found or 'none'}"
        )
    spans = sorted((_span(one, text, row, number) for one in _list(row[field])), key=lambda one: one[1:])
    for before, after in pairwise(spans):
        if before[2] > after[1]:
            raise InputError(f"{where(row, number)}: entities overlap: {before} and {after}; keep one of them")
    return Tagged(text, text, tuple(spans))


def _span(given: Any, text: str, row: Row, number: int) -> Span:
    values = [given.get(name) for name in ("start", "end", "label")] if isinstance(given, dict) else given
    if (
        not isinstance(values, list) or len(values) != 3 or not all(type(value) is int for value in values[:2])
        or not isinstance(values[2], str) or not values[2].strip() or not 0 <= values[0] < values[1] <= len(text)
        or not text[values[0] : values[1]].strip()
    ):  # fmt: skip
        raise InputError(
            f"{where(row, number)}: entity {str(given)[:80]!r}: an object with label, start and end is needed, of "
            f"characters within the text's {len(text)}"
        )
    return trimmed(values[2].strip(), values[0], values[1], text)


def trimmed(label: str, start: int, end: int, text: str) -> Span:
    """A span without the white space at its ends, which some vocabularies count to a word and people do not."""
    part = text[start:end]
    return label, start + len(part) - len(part.lstrip()), end - (len(part) - len(part.rstrip()))


def _words(row: Row, number: int) -> Words:
    try:
        words = Words.of({name: row[name] for name in ("tokens", "delimiter") if row.get(name) is not None})
    except InputError as error:
        raise InputError(f"{where(row, number)}: {error}") from error
    if words is None or not words.text.strip():
        raise InputError(f"{where(row, number)}: tokens are blank; a list of words is needed")
    return words


def _tags(row: Row, field: str, number: int) -> list[str]:
    tags = _list(row[field])
    if not all(isinstance(tag, str) for tag in tags):
        raise InputError(
            f"{where(row, number)}: {field} is {str(tags)[:60]}: names such as B-BRAND are needed. Numbers of Hugging "
            "Face datasets have theirs in dataset.features['ner_tags'].feature.names"
        )
    return tags


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _first(row: Row, names: Sequence[str]) -> str | None:
    return next((name for name in names if row.get(name) is not None), None)
