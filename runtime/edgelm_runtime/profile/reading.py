"""A report out of the JSON that an earlier profile wrote, which anyone may have edited, cut or made up."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..errors import InputError
from ..fields import parse_object
from .report import SCHEMA, Report

MAX_BYTES = 4_000_000
_MAX_ITEMS = 100_000
_LARGEST = 2**63 - 1


def read_report(path: Path) -> Report:
    """The report in a file. Raises InputError for what is no report, of another schema, or cut off."""
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give the JSON of an earlier profile") from error
    try:
        return parse_report(data)
    except ValueError as error:
        raise InputError(f"{path} is no report of edgelm profile: {error}; profile again with --json") from error


def parse_report(data: bytes) -> Report:
    """The report in some bytes. Raises ValueError, which names the field; unknown fields are ignored."""
    values = parse_object(data, MAX_BYTES)
    if "schema" not in values:
        raise ValueError("it has no schema number")
    if values["schema"] != SCHEMA:
        raise ValueError(f"its schema is {str(values['schema'])[:40]!r}, this edgelm reads {SCHEMA}")
    report: Report = _value(Report, values, "")
    return report


def _value(kind: Any, value: Any, where: str) -> Any:
    """`value` as the type that a dataclass declares."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _value(next(one for one in arguments if one is not type(None)), value, where)
    if is_dataclass(kind):
        return _object(kind, value, where)
    if origin is tuple:
        if not isinstance(value, list) or len(value) > _MAX_ITEMS:
            raise ValueError(f"{where} must be a list")
        return tuple(_value(arguments[0], one, f"{where}[{index}]") for index, one in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, dict) or len(value) > _MAX_ITEMS:
            raise ValueError(f"{where} must be an object")
        return {name: _value(arguments[1], one, f"{where}.{name}") for name, one in value.items()}
    if type(value) is int and abs(value) > _LARGEST:
        raise ValueError(f"{where} must be within 64 bits, found {str(value)[:40]}")
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{where} must be of type {kind.__name__}, found {str(value)[:40]!r}")
    return value


def _object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where or 'the report'} must be an object")
    hints = get_type_hints(kind)
    found = {}
    for field in fields(kind):
        name = f"{where}.{field.name}".lstrip(".")
        if field.name in value:
            found[field.name] = _value(hints[field.name], value[field.name], name)
        elif field.default is MISSING:
            raise ValueError(f"{name} is missing")
    return kind(**found)
