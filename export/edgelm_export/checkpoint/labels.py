"""The names of a classifier's classes, as many and as different as its logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgelm_export.families import Weights
from edgelm_runtime.errors import InputError, UnsupportedCheckpoint

# The last layer of a classifier, as transformers' models call it.
HEADS = ("classifier.out_proj", "classifier", "score", "cls.seq_relationship")
_REMEDY = "write id2label into config.json, or name the classes in their order with --labels"


def read_labels(value: str) -> tuple[str, ...]:
    """What --labels names: names with commas between them, or a file with one in each line.

    Raises:
        InputError: no names, an empty one, or the same twice.
    """
    path = Path(value)
    try:
        parts = path.read_text("utf-8-sig").splitlines() if path.is_file() else value.split(",")
    except (OSError, ValueError) as error:
        raise InputError(f"--labels {value}: not readable as UTF-8 text ({error})") from error
    names = tuple(part.strip() for part in parts)
    if not all(names) or len(set(names)) != len(names):
        raise InputError(
            f"--labels {value!r}: accepted are different names with commas between them, or a file with one in a line"
        )
    return names


def with_labels(config: Mapping[str, Any], given: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of config.json with an ``id2label`` that transformers reads: names by the number of their logit.

    ``given`` names stand for those of the file. Names that are there in another form, by ``label2id`` alone or by
    numbers from 1 on, are put into this one; what says nothing is left to transformers.
    """
    named = dict(enumerate(given)) or _named(config)
    if named is None:
        return dict(config)
    rest = {name: value for name, value in config.items() if name not in ("num_labels", "label2id")}
    return {
        **rest, "id2label": {str(index): name for index, name in named.items()},
        "label2id": {name: index for index, name in named.items()},
    }  # fmt: skip


def _named(config: Mapping[str, Any]) -> dict[int, str] | None:
    """The names by number; None where the configuration has none."""
    stored, inverse = config.get("id2label"), config.get("label2id")
    names = (_by_number(stored) or _inverted(stored)) if stored else _inverted(inverse)
    if not names:
        return None
    first = min(names)
    # Numbers from 1 on, one after the other, are those of a table for people: there is no logit before the first.
    if first == 1 and sorted(names) == list(range(1, len(names) + 1)):
        names = {index - 1: name for index, name in names.items()}
    return dict(_distinct(names))


def _by_number(stored: Any) -> dict[int, str]:
    """The names of a table by number; nothing where its keys are no numbers."""
    try:
        return {int(index): str(name).strip() for index, name in dict(stored).items()}
    except (TypeError, ValueError):
        return {}


def _inverted(stored: Any) -> dict[int, str]:
    """The names of a table of numbers by name; nothing where two have the same, or one is none."""
    numbers = dict(stored) if isinstance(stored, dict) else {}
    names = {number: str(name) for name, number in numbers.items() if type(number) is int}
    return names if len(names) == len(numbers) else {}


def _distinct(names: Mapping[int, str]) -> Iterator[tuple[int, str]]:
    """The names in order; an empty one becomes transformers' own, and one that was there is given its number."""
    seen: set[str] = set()
    for index in sorted(names):
        name = names[index] or f"LABEL_{index}"
        while name in seen:
            name = f"{name} #{index}"
        seen.add(name)
        yield index, name


def labels_of(config: Mapping[str, Any], weights: Weights) -> tuple[str, ...]:
    """The name of every class of a classifier, in the order of its logits.

    Raises:
        UnsupportedCheckpoint: there are more or fewer names than the head has rows.
    """
    names = {int(index): str(name) for index, name in (config.get("id2label") or {}).items()}
    parts = [f"{head}.{part}" for head in HEADS for part in ("weight", "bias")]
    sizes = {name: int(weights(name).shape[0]) for name in parts if name in weights}
    stored, rows = next(iter(sizes.items()), ("", len(names)))
    if len(names) != rows:
        raise UnsupportedCheckpoint(
            f"config.json: id2label names {len(names)} classes ({', '.join(names.values())[:200]}), the head "
            f"{stored} has {rows}; {_REMEDY}"
        )
    return tuple(names.get(index, f"LABEL_{index}") for index in range(rows))


def label_names(config: Mapping[str, Any], rows: int) -> tuple[str, ...]:
    """The names of so many classes that no head of the model gives, numbered where config.json names another number."""
    names = {int(index): str(name) for index, name in (config.get("id2label") or {}).items()}
    return tuple(names[index] if len(names) == rows else f"LABEL_{index}" for index in range(rows))


def notes_on(raw: Mapping[str, Any], labels: Sequence[str]) -> list[str]:
    """What is to be known of ``labels``, beside config.json as it lies there."""
    notes: list[str] = []
    unnamed = [name for index, name in enumerate(labels) if name == f"LABEL_{index}"]
    if unnamed:
        notes.append(f"config.json does not name {'them' if len(unnamed) == len(labels) else ', '.join(unnamed)}")
    stored = raw.get("id2label")
    keys = [str(key) for key in stored] if isinstance(stored, dict) else []
    written = [str(name).strip() for name in stored.values()] if isinstance(stored, dict) else []
    doubled = sorted({name for name in written if name and written.count(name) > 1})
    if doubled:
        notes.append(f"{', '.join(doubled)} is the name of several classes: the later ones have their number behind it")
    if "0" not in keys and "1" in keys:
        notes.append("id2label counts from 1, the logits from 0: its first name is that of the first logit")
    return notes
