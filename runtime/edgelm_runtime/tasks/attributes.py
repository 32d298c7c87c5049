"""Product attributes in any of the ways that people have them, to one canonical text: "key: value; key: value".

The grammar of the canonical text: entries are separated by ";" (or "；", or a line end), a name ends at its first ":"
(or "："). What follows a separator without a name is part of the value before it, so values may hold ";" and ":"; a
value that itself reads like further entries is read as them, whatever form it came in.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping

from ..errors import InputError

ACCEPTED = (
    'accepted: a mapping of names to values, "类型#裙*颜色#白色", "name: value; name: value", '
    'or a JSON object such as {"颜色": "白色"}'
)
MAX_ENTRIES = 200
NOT_IN_NAMES = ":：;；#{\n"

Attributes = list[tuple[str, str]]

_ANSWERS = frozenset(["yes", "no", "true", "false", "none", "是", "否", "有", "无"])
_SEPARATOR = re.compile(r"([;；])")
_NAME_END = re.compile(r"[:：]")


def parse(source: Mapping[str, object] | str) -> Attributes:
    """Ordered (name, value) pairs, none of them empty. A name may come more than once; each keeps its own entry.

    A value that is a list gives one entry for each item. Runs of white space become one space.
    Raises InputError, saying what is accepted, when there is no attribute, a name or value is missing or of another
    kind, or there are more than MAX_ENTRIES.
    """
    if isinstance(source, Mapping):
        entries = _from_pairs(source.items())
    elif isinstance(source, str):
        entries = _from_text(source.strip())
    else:
        raise InputError(f"attributes are of type {type(source).__name__}; {ACCEPTED}")
    if not entries:
        raise InputError(f"no attributes given; {ACCEPTED}")
    return entries


def canonical(attributes: Iterable[tuple[str, str]]) -> str:
    """The text that the model reads, "key: value; key: value", from what parse returned."""
    return "; ".join(f"{name}: {value}" for name, value in attributes)


def items(attributes: Iterable[tuple[str, str]]) -> list[str]:
    """The values, each once: a list with commas item by item."""
    parts = (part.strip() for _, value in attributes for part in value.split(","))
    return list(dict.fromkeys(part for part in parts if part))


def to_name(attributes: Iterable[tuple[str, str]]) -> list[str]:
    """The items that a text about the product can name: all but yes and no."""
    return [item for item in items(attributes) if item.lower() not in _ANSWERS]


def _from_text(text: str) -> Attributes:
    if text.startswith("{"):
        return _from_json(text)
    hash_mark = text.find("#")
    name_end = _NAME_END.search(text)
    if hash_mark >= 0 and (name_end is None or hash_mark < name_end.start()):
        return _from_pairs(_hash_pairs(text))
    return _from_entries(_on_one_line(text))


def _on_one_line(text: str) -> str:
    """A line that begins with a name is an entry, any other goes on with the line before it."""
    first, *lines = text.split("\n")
    return first + "".join((";" if _name_length(_SEPARATOR.split(line, 1)[0]) else " ") + line for line in lines)


def _from_json(text: str) -> Attributes:
    try:
        # Pairs keep repeated names; numbers keep the digits that were written.
        pairs = json.loads(text, object_pairs_hook=tuple, parse_int=str, parse_float=str, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InputError(f"attributes begin with a brace but are no JSON object ({error}); {ACCEPTED}") from error
    return _from_pairs(pairs)


def _no_number(constant: str) -> str:
    raise ValueError(f"{constant} is no number of JSON")


def _hash_pairs(text: str) -> list[tuple[str, str]]:
    """类型#裙*颜色#白色 -> pairs; an item without "#" goes on with the value before it (规格#3*4)."""
    pairs: list[tuple[str, list[str]]] = []
    for item in text.split("*"):
        name, mark, value = item.partition("#")
        if mark or not pairs:
            pairs.append((name, [value]))
        elif item.strip():
            pairs[-1][1].append(item)
    return [(name, "*".join(parts)) for name, parts in pairs]


def _from_pairs(pairs: Iterable[tuple[object, object]]) -> Attributes:
    entries: Attributes = []
    for name, value in pairs:
        if not isinstance(name, str) or not name.strip() or any(mark in name for mark in NOT_IN_NAMES):
            raise InputError(
                f"attribute name {_shown(name)} refused; accepted: text that is not blank and holds none of "
                f"{NOT_IN_NAMES.strip()} or a line end"
            )
        for item in value if isinstance(value, list) else [value]:
            entries += _from_entries(f"{name}: {_tidy(_value_text(name, item))}")
            _check_count(len(entries))
    return entries


def _check_count(entries: int) -> None:
    """Refuse too many as soon as there are: the rest is not read."""
    if entries > MAX_ENTRIES:
        raise InputError(f"more than {MAX_ENTRIES} attributes given, accepted: at most {MAX_ENTRIES}; leave some out")


def _value_text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        try:
            return str(value)
        except ValueError as error:
            raise InputError(f"attribute {_shown(name)}: the number is too long ({error}); give it as text") from error
    raise InputError(
        f"attribute {_shown(name)} has the value {_shown(value)}; accepted: text, a number, true or false, "
        "or a list of them"
    )


def _from_entries(text: str) -> Attributes:
    """Read the canonical grammar: cut at separators, join what is no new entry to the value before it."""
    entries: list[tuple[str, list[str]]] = []
    separator = ""
    for index, part in enumerate(_SEPARATOR.split(text)):
        if index % 2:
            separator = part
            continue
        length = _name_length(part)
        if length:
            entries.append((part[:length], [part[length + 1 :]]))
            _check_count(len(entries))
        elif entries:
            entries[-1][1].extend((separator, part))
        elif part.strip():
            raise InputError(f"attribute {_shown(part.strip())} has no name; {ACCEPTED}")
    return [(_tidy(name), _filled(name, _tidy("".join(parts)))) for name, parts in entries]


def _name_length(part: str) -> int:
    """Characters before the colon that ends a name; 0 where `part` does not begin with a name."""
    end = _NAME_END.search(part)
    name = part[: end.start()] if end else ""
    return len(name) if name.strip() and "#" not in name and "{" not in name else 0


def _filled(name: str, value: str) -> str:
    if not value:
        raise InputError(f"attribute {_shown(name)} has no value; give one, or leave the attribute out")
    return value


def _tidy(text: str) -> str:
    """White space as single spaces; no space or separator at the ends."""
    return " ".join(text.split()).strip(" ;；")


def _shown(value: object) -> str:
    """A value for an error message, cut to a readable length."""
    try:
        shown = repr(value)
    except (ValueError, RecursionError):
        return f"of type {type(value).__name__}"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
