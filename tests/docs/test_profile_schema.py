"""The page of the JSON of a profile: current, and a unit at every number."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_profile_schema", DOCS / "generate_profile_schema.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current(generator: ModuleType) -> None:
    assert (DOCS / "profile-schema.md").read_text("utf-8") == generator.render(), "run: make docs"


def test_every_number_has_a_unit_and_every_unit_a_field(generator: ModuleType) -> None:
    units = generator.UNITS
    named = {(kind.__name__, field.name) for kind in generator.kinds() for field in fields(kind)}
    assert {(kind, field) for kind, given in units.items() for field in given} <= named
    missing = [
        f"{kind.__name__}.{name}"
        for kind in generator.kinds()
        for name, hint in get_type_hints(kind).items()
        if any(word in str(hint) for word in ("int", "float", "Summary", "Histogram"))
        and "report.Point" not in str(hint)
        and "MemoryPoint" not in str(hint)
        and not units.get(kind.__name__, {}).get(name)
    ]
    assert missing == []


def test_every_object_says_what_it_is(generator: ModuleType) -> None:
    for kind in generator.kinds():
        assert kind.__doc__ is not None
        assert not kind.__doc__.startswith(f"{kind.__name__}("), kind  # what dataclass writes where there is none
