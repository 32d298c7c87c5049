"""Typed fields out of a JSON object that nobody has checked yet. Standard library only."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, TypeGuard

MANIFEST_NAME = "edgelm.json"

_MAX_DEPTH = 32
# Also what ends a line for some readers, and what turns the direction of the text around it.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_REQUIRED: Any = object()


def check_path(relative: str) -> str:
    """Return `relative` when it is a plain POSIX name inside the bundle's folder.

    Raises ValueError for an empty name, "..", ".", an absolute path, a backslash, a drive or another colon, a control
    character, a lone surrogate, and for the manifest's own name.
    """
    if not relative:
        raise ValueError("the path is empty")
    if _CONTROL.search(relative) or "\\" in relative or ":" in relative:
        raise ValueError(f"the path {relative!r} has a backslash, a colon or a control character")
    if any(part in ("", ".", "..") for part in relative.split("/")):
        raise ValueError(f"the path {relative!r} is absolute, or has an empty part, '.' or '..'")
    if relative == MANIFEST_NAME:
        raise ValueError(f"the path {relative!r} is the manifest itself")
    if _LONE_SURROGATE.search(relative):
        raise ValueError(f"the path {relative!r} has a lone surrogate")
    return relative


def parse_object(data: bytes, most: int) -> dict[str, Any]:
    """A JSON object of at most `most` bytes, shallow, finite and valid Unicode all through. Raises ValueError."""
    if len(data) > most:
        raise ValueError(f"it has {len(data):,} bytes, at most {most:,} are accepted")
    try:
        parsed = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {_MAX_DEPTH} levels") from None
    except ValueError as error:
        raise ValueError(f"it is not valid JSON in UTF-8 ({error})") from None
    if not isinstance(parsed, dict):
        raise ValueError(f"it must be a JSON object, found {_kind(parsed)}")
    problem = _first_unsound(parsed)
    if problem:
        raise ValueError(problem)
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _first_unsound(root: Any) -> str:
    """The first value that could not be written back: too deep, not finite, not Unicode. "" when all is sound."""
    stack: list[tuple[Any, int]] = [(root, 1)]
    while stack:
        value, depth = stack.pop()
        if depth > _MAX_DEPTH:
            return f"it is nested deeper than {_MAX_DEPTH} levels"
        if isinstance(value, dict):
            stack += [(inner, depth + 1) for inner in value.values()]
            stack += [(key, depth) for key in value]
        elif isinstance(value, list):
            stack += [(inner, depth + 1) for inner in value]
        elif isinstance(value, float) and not math.isfinite(value):
            return "it has a number outside the range of float64"
        elif isinstance(value, str) and _LONE_SURROGATE.search(value):
            return f"the text {value[:40]!r} has a lone surrogate"
    return ""


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _is_token_id(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 1 << 31


class Fields:
    """Takes typed fields out of one JSON object; notes every problem and goes on with a harmless value."""

    def __init__(self, values: Any, where: str, problems: list[str]) -> None:
        self._where = where
        self._values: dict[str, Any] = values if isinstance(values, dict) else {}
        self._taken: set[str] = set()
        self._problems = problems
        if not isinstance(values, dict):
            self._problems.append(f"{where} must be an object, found {_kind(values)}")
            self._problems = []

    def problem(self, key: str, text: str) -> None:
        self._problems.append(f"{self._where}.{key} {text}" if self._where else f"{key} {text}")

    def _take(self, key: str, default: Any) -> Any:
        self._taken.add(key)
        if key in self._values:
            return self._values[key]
        if default is _REQUIRED:
            self.problem(key, "is missing")
            return None
        return default

    def _wrong(self, key: str, expected: str, value: Any) -> None:
        if key in self._values:
            self.problem(key, f"must be {expected}, found {_kind(value)} {json.dumps(value)[:60]}")

    def text(self, key: str, *, required: bool = True) -> str:
        """Text on one line; "" where it may be left out, or null, and is."""
        value = self._take(key, _REQUIRED if required else None)
        if value is None and not required:
            return ""
        if isinstance(value, str) and value.strip() and not _CONTROL.search(value):
            return value
        self._wrong(key, "text on one line", value)
        return ""

    def path(self, key: str, *, required: bool = True) -> str:
        value = self.text(key) if required or key in self._values else ""
        try:
            return check_path(value) if value else ""
        except ValueError as error:
            self.problem(key, f"must name a file inside the folder: {error}")
            return ""

    def number(self, key: str, low: int, high: int) -> int:
        value = self._take(key, _REQUIRED)
        if type(value) is int and low <= value <= high:
            return value
        self._wrong(key, f"an integer from {low} to {high}", value)
        return low

    def token_id(self, key: str) -> int | None:
        value = self._take(key, None)
        if value is None or _is_token_id(value):
            return value
        self._wrong(key, "a token id or null", value)
        return None

    def token_ids(self, key: str, most: int) -> tuple[int, ...]:
        """The ids of a field that has one, a list of at most `most` different ones, or null."""
        value = self._take(key, None)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if len(ids) <= most and all(map(_is_token_id, ids)) and len(set(ids)) == len(ids):
            return tuple(ids)
        self._wrong(key, f"a token id, a list of at most {most} different ones, or null", value)
        return ()

    def texts(self, key: str, *, empty: bool, required: bool = True) -> tuple[str, ...]:
        value = self._take(key, _REQUIRED if required else [])
        strings = isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value)
        if strings and (value or empty) and len(set(value)) == len(value):
            return tuple(value)
        self._wrong(key, f"a list of {'' if empty else 'at least one of '}different non-empty strings", value)
        return ()

    def choice(self, key: str, accepted: Sequence[str]) -> str:
        """One of `accepted`; the first where it is left out."""
        value = self._take(key, accepted[0])
        if value in accepted:
            return str(value)
        self._wrong(key, f"one of {', '.join(accepted)}", value)
        return accepted[0]

    def optional_choice(self, key: str, accepted: Sequence[str]) -> str | None:
        """One of `accepted`; None where it is left out."""
        return self.choice(key, accepted) if key in self._values else None

    def flag(self, key: str) -> bool:
        value = self._take(key, False)
        if isinstance(value, bool):
            return value
        self._wrong(key, "true or false", value)
        return False

    def mapping(self, key: str, *, required: bool = True) -> dict[str, Any]:
        value = self._take(key, _REQUIRED if required else {})
        if isinstance(value, dict):
            return value
        self._wrong(key, "an object", value)
        return {}

    def objects(self, key: str) -> list[Any]:
        value = self._take(key, _REQUIRED)
        if isinstance(value, list) and value:
            return value
        self._wrong(key, "a list of at least one object", value)
        return []

    def part(self, key: str) -> Fields:
        """The fields of an object inside; when it is missing, only that is reported."""
        value = self._take(key, _REQUIRED)
        return Fields(value, key, self._problems if key in self._values else [])

    def rest(self) -> dict[str, Any]:
        return {key: value for key, value in self._values.items() if key not in self._taken | {"needs_edgelm"}}
