"""Write docs/profile-schema.md from the dataclasses of a report: ``python docs/generate_profile_schema.py``."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from edgelm_runtime.profile.report import SCHEMA, Report

TARGET = Path(__file__).with_name("profile-schema.md")
INTRODUCTION = f"""\
# The JSON of `edgelm profile`, schema {SCHEMA}

Written by `make docs` from the dataclasses in `edgelm_runtime/profile/report.py`; a test checks that it is current.
`edgelm profile --json` prints one object, the [report](#report); `--compare` reads it again. Every field of an object
is there; one that may be `null` was not measured, and `left_out` says why. Fields may be added under the same `schema`,
and a reader ignores those that it does not know. A field that changes its meaning, or goes, raises it; a report of
another schema is refused. Numbers are finite and within 64 bits.
"""
# What a number counts. A summary and a histogram have the unit of the field that they are in.
UNITS = {
    "Report": {"schema": "version", "seconds": "s"},
    "Subject": {"threads": "threads"},
    "Machine": {"cores": "cores", "memory": "bytes", "mhz": "MHz"},
    "Inputs": {"count": "texts", "tokens": "tokens", "lengths": "tokens"},
    "ColdStart": {"stages": "ms", "total": "ms"},
    "Steady": {
        "stages": "ms", "total": "ms", "latencies": "ms", "rounds": "ms an answer", "texts": "texts",
        "drift": "part of one",
    },
    "Generation": {
        "time_to_first_token": "ms", "time_per_output_token": "ms", "tokens_per_second": "tokens/s",
        "output_tokens": "tokens", "lookup": "part of one", "prefix_hits": "part of one",
    },
    "SingleStream": {"latency": "ms"},
    "Server": {"limit": "ms", "rate": "texts/s", "workers": "threads"},
    "ServerTry": {"rate": "texts/s", "latency": "ms"},
    "Offline": {"texts_per_second": "texts/s", "batch": "texts in a call"},
    "Throughput": {"batch": "texts in a call", "threads": "threads", "texts_per_second": "texts/s"},
    "MemoryPoint": {"seconds": "s", "answers": "answers", "resident": "bytes"},
    "Memory": {
        "imported": "bytes", "loaded": "bytes", "peak": "bytes", "growth": "bytes per 1,000 answers",
        "noise": "bytes per 1,000 answers",
    },
    "Energy": {"joules_per_answer": "J", "watts": "W", "idle_watts": "W"},
    "Operator": {"calls": "calls an answer", "ms": "ms an answer", "share": "part of one"},
    "Operators": {
        "others": "operators", "measured": "ms an answer", "outside": "ms an answer", "overhead": "part of one",
    },
    "Point": {"bytes": "bytes", "operations": "multiply-adds", "ms": "ms"},
    "Ceiling": {
        "read_bandwidth": "bytes/s", "int8_rate": "multiply-adds/s", "bytes": "bytes", "operations": "multiply-adds",
        "floor": "ms", "run": "ms", "share": "part of one",
    },
    "Trust": {"load": "part of one", "width": "part of one"},
    "Advice": {"before": "`unit`", "after": "`unit`"},
    "Summary": {
        "count": "samples", "p50": "the field's", "p90": "the field's", "p95": "the field's", "p99": "the field's",
        "max": "the field's", "low": "the field's", "high": "the field's", "p99_low": "the field's",
        "p99_high": "the field's",
    },
    "Histogram": {"edges": "the field's", "counts": "samples"},
}  # fmt: skip
_NAMES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def render() -> str:
    """The whole page: the report first, then every object in the order in which it occurs."""
    return "\n".join([INTRODUCTION, *(_section(kind) for kind in kinds())])


def kinds() -> list[Any]:
    """Every dataclass of a report, itself first."""
    found = [Report]
    for kind in found:
        found += [inner for hint in get_type_hints(kind).values() for inner in _inside(hint) if inner not in found]
    return list(dict.fromkeys(found))


def _inside(hint: Any) -> Iterator[Any]:
    if is_dataclass(hint):
        yield hint
    for argument in get_args(hint):
        yield from _inside(argument)


def _section(kind: Any) -> str:
    hints = get_type_hints(kind)
    rows = [
        f"| `{field.name}` | {_type(hints[field.name])} | {UNITS.get(kind.__name__, {}).get(field.name, '')} |"
        for field in fields(kind)
    ]
    later = [f"`{field.name}`" for field in fields(kind) if field.default is not MISSING and kind is not Report]
    added = [f"A reader takes reports without {', '.join(later)}.\n"] if later else []
    about = re.sub(r"\s+", " ", inspect.getdoc(kind) or "")
    return "\n".join(
        [f"## {kind.__name__}\n", f"{about}\n", *added, "| field | type | unit |", "|---|---|---|", *rows, ""]
    )


def _type(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if one is type(None) else _type(one) for one in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is Mapping:
        return f"object of {_type(arguments[1])} by name"
    return _NAMES.get(hint) or f"[{hint.__name__}](#{hint.__name__.lower()})"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
