"""What a task answers with: frozen, comparable, and ready for JSON through `to_dict()`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

Timings = Mapping[str, float]


class _Result:
    """What every result can do."""

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, in the order of the fields."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class SentimentResult(_Result):
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


@dataclass(frozen=True)
class ClassificationResult(_Result):
    """The classes of one text.

    `labels` are those that hold: the most probable one, all of at least 0.5 where any number may hold, none with
    regression; `problem_type` is transformers' name of the three. `scores` has every label's probability, or with
    regression its number, or what else the bundle's `function_to_apply` makes of the logits. The rest is as in
    `SentimentResult`.
    """

    problem_type: str
    labels: tuple[str, ...]
    scores: Mapping[str, float]
    language: str
    tokens: int
    windows: int
    notes: tuple[str, ...]
    bundle: str
    timings: Timings

    @property
    def is_regression(self) -> bool:
        """Whether `scores` are numbers, and no label holds."""
        return self.problem_type == "regression"


@dataclass(frozen=True)
class EmbeddingResult(_Result):
    """The vector of one text, float32 numbers. The rest is as in `SentimentResult`."""

    embedding: tuple[float, ...]
    language: str
    tokens: int
    windows: int
    notes: tuple[str, ...]
    bundle: str
    timings: Timings


@dataclass(frozen=True)
class Entity:
    """A part of a text with its label: `text` is `[start:end]` of the text that was given, in characters."""

    label: str
    score: float
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class TaggingResult(_Result):
    """The labelled parts of one text, in its order. The rest is as in `SentimentResult`."""

    entities: tuple[Entity, ...]
    language: str
    tokens: int
    windows: int
    notes: tuple[str, ...]
    bundle: str
    timings: Timings


@dataclass(frozen=True)
class Lookup:
    """Tokens that were proposed from what stood before, and how many of them were right."""

    proposed: int
    accepted: int


@dataclass(frozen=True)
class TextResult(_Result):
    """A generated text.

    `variants` holds every sampled text when several were asked for, `text` the first. `finish_reason` is "stop" when
    the model ended by itself or at a stop string, "length" when the limit cut it, "deadline" when the time was over
    and the text was cut after its last whole sentence. `timings` are milliseconds: of `total`, `tokenize`, `infer`,
    `sample` and `detokenize` are what was done, `prefill` and `decode` the same time by tokens read and tokens written.
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


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return dict(value)
    return asdict(value) if isinstance(value, Lookup | Entity) else value
