"""What the labels of a token classifier say, and how its tokens become entities."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgelm_export.notes import note
from edgelm_runtime.errors import InputError
from edgelm_runtime.manifest import AGGREGATIONS, OUTSIDE, Manifest
from edgelm_runtime.tasks.entities import grouped, marks_of
from edgelm_runtime.tasks.reading import Text
from edgelm_runtime.tokenizer import TextTokenizer

# The letters of IOB, BIOES, BILOU, BMES and BMEWO, as those of BIOES.
_PLACES: Mapping[str, str] = {
    "B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S",
}  # fmt: skip
_LETTER = "(?P<place>[BIMELSUW])"
_STYLES = tuple(
    re.compile(style.format(separator))
    for separator in ("-", "_", r"\.", ":", "/", r"\|")
    for style in (f"(?i:{_LETTER}){{}}(?P<kind>.+)", f"(?P<kind>.+){{}}{_LETTER}")
)
_PLAIN = re.compile("[BI]-.+")
_LETTERS_ALONE = re.compile(f"{_LETTER}(?P<kind>)")
SPLIT_WORDS = 3  # that are worth a note
ONLY_KIND = "ENTITY"  # where labels are letters alone
# Labels of training scripts: for what is no token of the text, and for a piece that goes on with a word.
_SPECIAL = re.compile(r"o|out(side)?|\[?(cls|sep|pad|start|end)\]?|<(s|/s|pad|start|end)>", re.IGNORECASE)
_CONTINUED = re.compile(r"x|\[x\]|##|\[?##wordpiece\]?", re.IGNORECASE)


def tags_of(labels: Sequence[str]) -> dict[str, str]:
    """What each label says in the scheme BIOES, told from all of them; empty where there is nothing to tell.

    That is where they are B-KIND, I-KIND and O, which the runtime reads by itself, and where they are names without a
    place in an entity. Names with a dash are told all the same: transformers takes what is before it for a place.
    """
    inside = [label for label in labels if not (_SPECIAL.fullmatch(label.strip()) or _continued(label))]
    for style in (*_STYLES, _LETTERS_ALONE):
        parsed = {label: match for label in inside if (match := style.fullmatch(label.strip()))}
        if len(parsed) == len(inside) and (_is_common(labels) or _is_scheme(parsed.values())):
            tags = {label: f"{_place(match)}-{match['kind'] or ONLY_KIND}" for label, match in parsed.items()}
            known = all(tag == label and tag[0] in "BI" for label, tag in tags.items())
            return {} if known and set(labels) <= {OUTSIDE, *tags} else {one: tags.get(one, OUTSIDE) for one in labels}
    return _names(labels) if any("-" in label and not _PLAIN.fullmatch(label) for label in labels) else {}


def _names(labels: Sequence[str]) -> dict[str, str]:
    """What labels say that are names without a place, but for those that are B-KIND or I-KIND."""
    return {one: one if one == OUTSIDE or _PLAIN.fullmatch(one) else f"I-{one}" for one in labels}


def _place(match: re.Match[str]) -> str:
    return _PLACES[match["place"].upper()]


def _is_common(labels: Sequence[str]) -> bool:
    """Whether labels are O and some B-KIND, and all others begin in the way of such."""
    return OUTSIDE in labels and any(label.startswith("B-") for label in labels)


def _is_scheme(parsed: Iterable[re.Match[str]]) -> bool:
    """Whether some kind has a beginning and what comes after it: "B" and "E" alone may be vitamins."""
    places: dict[str, set[str]] = {}
    for match in parsed:
        places.setdefault(match["kind"], set()).add(_place(match))
    return any(found >= {"B", "I"} or found >= {"B", "E", "S"} for found in places.values())


def _continued(label: str) -> bool:
    return _CONTINUED.fullmatch(label.strip()) is not None


def aggregation_of(folder: Path, labels: Sequence[str], asked: str | None) -> str:
    """How tokens become entities: as asked for, as `edgelm finetune` wrote beside the checkpoint, or as labels tell.

    A label for the pieces that go on with a word says that only the first piece has the word's. Else it is "simple", as
    in transformers' pipeline.

    Raises:
        InputError: an unknown strategy was asked for.
    """
    if asked is not None:
        if asked not in AGGREGATIONS:
            raise InputError(f"aggregation is {asked!r}; accepted are {', '.join(AGGREGATIONS)}")
        return asked
    written = _written(folder)
    if written in AGGREGATIONS:
        return str(written)
    return "first" if tags_of(labels) and any(map(_continued, labels)) else AGGREGATIONS[0]


def note_split_words(tokenizer_json: bytes, draft: Manifest, answers: Sequence[tuple[Text, NDArray[Any]]]) -> None:
    """Say on stderr where words with an entity are split, as they are where only their first pieces were labelled.

    ``answers`` are texts with torch's logits, float32 [tokens, labels]. Nothing is said where words stay whole, or
    where the vocabulary does not mark the pieces of a word.
    """
    tokenizer = TextTokenizer(tokenizer_json, draft.tokenizer)
    if draft.aggregation != AGGREGATIONS[0] or not tokenizer.marks_subwords:
        return
    marks, whole, split = marks_of(draft.labels, draft.tags), 0, []
    for text, logits in answers:
        parts = tokenizer.encode_parts(str(text))
        best = logits[len(parts.prefix) :].argmax(axis=-1)[: len(parts.ids)].tolist()
        for first, last in _words(tokenizer.subwords(parts, str(text))[: len(best)]):
            found = [marks[index] for index in best[first:last]]
            if last - first > 1 and any(mark.kind != OUTSIDE for mark in found):
                one = list(grouped(found)) == [(found[0].kind, 0, len(found))]
                whole += one
                split += [] if one else [str(text)[parts.starts[first] : parts.ends[last - 1]]]
    if len(split) >= SPLIT_WORDS and len(split) > whole:
        note(
            f"aggregation: {len(split)} of {len(split) + whole} words with an entity are split by their "
            f"token pieces, such as {', '.join(map(repr, dict.fromkeys(split[:3])))}. If only the first piece of a "
            "word was labelled in training, as in transformers' examples, export with --aggregation first"
        )


def _words(subwords: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """The tokens of every word, as (first, last + 1)."""
    starts = [place for place, subword in enumerate(subwords) if place == 0 or not subword]
    yield from zip(starts, [*starts[1:], len(subwords)], strict=True)


def _written(folder: Path) -> object:
    """What finetune.json says, which is another program's where it is not as ours."""
    try:
        report = json.loads((folder / "finetune.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return report.get("aggregation") if isinstance(report, dict) else None
