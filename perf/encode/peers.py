"""The encoders that are compared: one for each file in engines/."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from perf.beside import peers as beside
from perf.encode.protocol import About, Measured

ENGINES = Path(__file__).parent / "engines"


@dataclass
class Peer(beside.Peer[Measured]):
    """An encoder; `gives` is what it makes of a text: a label, or an embedding."""

    home: ClassVar[str] = "encode"
    result: ClassVar[type[Any]] = Measured

    gives: str = "label"


def peers() -> list[Peer]:
    """edgelm first, then its peers by name."""
    names = sorted(
        {path.stem for path in ENGINES.glob("*.py")} - {"__init__"}, key=lambda name: (name != "edgelm", name)
    )
    return [_peer(name) for name in names]


def _peer(name: str) -> Peer:
    about: About = import_module(f"perf.encode.engines.{name}").ABOUT
    return Peer(name, about.title, about.precisions, about.module, gives=about.gives)
