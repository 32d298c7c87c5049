"""Two models side by side on the rows of an evaluation file: two bundles, or a bundle and its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from edgelm_export import taskmetrics
from edgelm_export.evaluation import Evaluation, Metrics
from edgelm_export.metrics import format_table
from edgelm_export.sides import Speed, in_turns, open_sides, read_otherwise, served, text_parity_of
from edgelm_export.taskmetrics import Difference
from edgelm_export.text_parity import TextParity
from edgelm_runtime.errors import InputError
from edgelm_runtime.visible import visible

SHOWN = 5
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class Change:
    """A row that the two answer differently, with the score of each answer in percent."""

    text: str
    expected: str
    a: str
    b: str
    score_a: float
    score_b: float


@dataclass(frozen=True)
class Comparison:
    """A beside B. ``agreement`` is the share of rows with the same answer; the other rows are ``changes``, worst first.

    ``rows`` are those that fit into the context of both; ``metrics`` are of all that each of them answered.
    """

    names: tuple[str, str]
    rows: int
    metrics: tuple[Metrics, Metrics]
    differences: Sequence[Difference]
    agreement: float
    changes: Sequence[Change]
    bytes: tuple[int, int]
    speeds: tuple[Speed, Speed]
    read_otherwise: Sequence[str] = ()
    text_parity: TextParity | None = None

    @property
    def worse(self) -> int:
        """Rows that B answers worse: of a classifier, those that A got right and B wrong."""
        return sum(change.score_b < change.score_a for change in self.changes)

    @property
    def better(self) -> int:
        """Rows that B answers better."""
        return sum(change.score_b > change.score_a for change in self.changes)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain values for JSON."""
        return {**asdict(self), "worse": self.worse, "better": self.better}

    def _texts(self) -> list[str]:
        """What became of raw texts, where transformers answers for one of the two."""
        found = []
        if self.read_otherwise:
            text = visible(self.read_otherwise[0][:_SHOWN_CHARACTERS])
            found.append(
                f"{len(self.read_otherwise)} rows are read as other tokens than by transformers, such as {text}"
            )
        if self.text_parity is not None:
            found.append(self.text_parity.table())
        return found

    def table(self) -> str:
        """The comparison for a person."""
        first, second = self.speeds
        measured: list[list[object]] = [
            ["size, MB", self.bytes[0] / 1e6, self.bytes[1] / 1e6],
            ["load, ms", first.load_ms, second.load_ms],
            ["one answer, ms", first.answer_ms, second.answer_ms],
            *taskmetrics.metric_columns({"A": self.metrics[0], "B": self.metrics[1]}),
        ]
        same = len(self.changes) - self.worse - self.better
        parts = [
            f"A  {visible(self.names[0])}\nB  {visible(self.names[1])}",
            format_table(measured, ("what", "A", "B")),
            taskmetrics.difference_table(self.differences, "A", "B"),
            f"{self.rows} rows, the same answer on {self.agreement:.2%}. B is worse on {self.worse}, better on "
            f"{self.better}, different and equally good on {same}.",
            *map(_shown, self.changes[:SHOWN]),
            *self._texts(),
        ]
        return "\n\n".join(parts)


def _shown(change: Change) -> str:
    rows = (("input", change.text), ("expected", change.expected), ("A", change.a), ("B", change.b))
    return "\n".join(f"  {name:<9} {visible(' '.join(text.split())[:_SHOWN_CHARACTERS])}" for name, text in rows)


def compare(a: Path, b: Path, eval_file: Path) -> Comparison:
    """Evaluate both on the same rows, and time them in turns.

    Raises:
        InputError: two checkpoints, two that do different things, or an evaluation file that cannot be used.
        BundleNotFound: one of the folders is not there.
        BundleRejected, UnsupportedCheckpoint: one is there and cannot be used, or is a checkpoint of another task.
    """
    sides = open_sides(a, b)
    serves = served(*sides)
    rows = taskmetrics.evaluation_rows(eval_file, sides[0].bundle.manifest, serves)
    otherwise: list[str] = []
    for side in sides:
        otherwise += read_otherwise(side, [str(row.get("text", "")) for row in rows])
    whole = [side.evaluate(serves, rows) for side in sides]
    first, second = whole[0].shared(whole[1]), whole[1].shared(whole[0])
    if not first.examples:
        raise InputError(f"{eval_file}: no row fits into the context of both {a} and {b}; give shorter ones")
    changes = _changes(first, second)
    return Comparison(
        names=(sides[0].name, sides[1].name),
        rows=len(first.examples),
        metrics=(whole[0].metrics, whole[1].metrics),
        differences=taskmetrics.differences(first, second),
        agreement=fmean(float(mine == other) for mine, other in zip(first.answers, second.answers, strict=True)),
        changes=changes,
        bytes=(sides[0].bytes, sides[1].bytes),
        speeds=in_turns(sides, first.examples),
        read_otherwise=otherwise,
        text_parity=text_parity_of(sides),
    )


def _changes(first: Evaluation, second: Evaluation) -> list[Change]:
    """The rows that are answered differently, those that became worst first."""
    changes = [
        Change(example.text, example.expected, mine, other, float(score), float(after))
        for example, mine, other, score, after in zip(
            first.examples, first.answers, second.answers, first.scores, second.scores, strict=True
        )
        if mine != other
    ]
    return sorted(changes, key=lambda change: change.score_b - change.score_a)
