"""What a task answers with: frozen, comparable, and ready for JSON through `to_dict()`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

Timings = Mapping[str, float]


@dataclass(frozen=True)
class SentimentResult:
    """The sentiment of one text.

    `score` is the probability of `label`, `scores` has every label's, each in [0, 1]. `tokens` counts what the model
    read, special tokens included; `windows` is above 1 for a text longer than the context. `notes` says in words
    whatever was changed or left out. `timings` are milliseconds.
    """

    label: str
    score: float
    scores: Mapping[str, float]
    language: str
    tokens: int
    windows: int
    notes: tuple[str, ...]
    bundle: str
    timings: Timings

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, in the order of the fields."""
        return _to_dict(self)


@dataclass(frozen=True)
class Lookup:
    """Tokens that were proposed from what stood before, and how many of them were right."""

    proposed: int
    accepted: int


@dataclass(frozen=True)
class TextResult:
    """A generated text.

    `variants` holds every sampled text when several were asked for, `text` the first. `finish_reason` is "stop" when
    the model ended by itself or at a stop string, "length" when the limit cut it, "deadline" when the time was over
    and the text was cut after its last whole sentence. `timings` are milliseconds.
    """

    text: str
    variants: tuple[str, ...]
    finish_reason: str
    language: str
    prompt_tokens: int
    tokens: int
    windows: int
    notes: tuple[str, ...]
    bundle: str
    timings: Timings
    lookup: Lookup

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, in the order of the fields."""
        return _to_dict(self)


def _to_dict(result: SentimentResult | TextResult) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for field in fields(result):
        value = getattr(result, field.name)
        if isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, Mapping):
            value = dict(value)
        elif isinstance(value, Lookup):
            value = asdict(value)
        plain[field.name] = value
    return plain
