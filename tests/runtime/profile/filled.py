"""A report with every field filled, made from the dataclasses themselves, and ways to spoil its JSON."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from edgelm_runtime.profile.report import SCHEMA, Report

_PLAIN = {str: "名 <a|b>", int: 7, float: 1.5, bool: True}


def _filled(kind: Any, name: str = "") -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if name == "schema":
        return SCHEMA
    if origin in (Union, types.UnionType):
        return _filled(next(one for one in arguments if one is not type(None)))
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{field.name: _filled(hints[field.name], field.name) for field in fields(kind)})
    if origin is tuple:
        return (_filled(arguments[0]), _filled(arguments[0]))
    if origin is Mapping:
        return {"infer": _filled(arguments[1]), "detokenize": _filled(arguments[1])}
    return _PLAIN[kind]


# two of every list, a Chinese name with marks in every text; what the dataclasses gain, it gains
FILLED: Report = _filled(Report)
WRITTEN = json.dumps(FILLED.to_dict(), ensure_ascii=False).encode("utf-8")
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400) | st.just(-(2**63)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value in a JSON tree."""
    yield before
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from paths(one, (*before, key))


PATHS = list(paths(json.loads(WRITTEN)))


def edited(path: tuple[Any, ...], value: Any) -> bytes:
    """The report with another value at a place."""
    tree = json.loads(WRITTEN)
    if not path:
        return json.dumps(value).encode("ascii")
    inside = tree
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return json.dumps(tree).encode("ascii")
