"""How good a bundle is on a file of rows with the right answers: metrics, each class, and the rows it does worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgelm_export.class_report import MIN_ROWS, ClassReport
from edgelm_export.evaluation import Evaluation, Metrics
from edgelm_export.metrics import format_table
from edgelm_export.taskmetrics import evaluate_bundle, evaluation_rows
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.loader import served_task

WORST = 10
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class WorstRow:
    """A row that was answered badly: its score is that of its metric, in percent; ``place`` is its file and line."""

    place: str
    text: str
    text_pair: str
    expected: str
    answered: str
    score: float


@dataclass(frozen=True)
class BundleEvaluation:
    """What a bundle does on the rows of a file. ``worst`` are rows that are not right, the worst first."""

    bundle: str
    tasks: tuple[str, ...]
    file: str
    rows: int
    metrics: Metrics
    classes: ClassReport | None
    worst: Sequence[WorstRow]
    warnings: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as plain values for JSON."""
        return {
            "bundle": self.bundle, "tasks": list(self.tasks), "file": self.file, "rows": self.rows,
            "metrics": dict(self.metrics), **(self.classes.to_dict() if self.classes else {}),
            "worst": [asdict(row) for row in self.worst], "warnings": list(self.warnings),
        }  # fmt: skip

    def table(self) -> str:
        """The evaluation for a person."""
        head = f"{self.bundle}: {', '.join(self.tasks)} on {self.rows} rows of {self.file}"
        parts = [f"{head}\n{format_table(list(self.metrics.items()), ('metric', self.bundle))}"]
        if self.classes:
            parts.append(self.classes.table())
        if self.worst:
            parts.append("the worst rows")
        parts += map(_shown, self.worst)
        return "\n\n".join([*parts, *(f"warning: {one}" for one in self.warnings)])


def _shown(row: WorstRow) -> str:
    fields = {"row": row.place, "text": row.text, "text_pair": row.text_pair, "expected": row.expected,
              "answered": row.answered}  # fmt: skip
    return "\n".join(
        f"  {name:<9} {' '.join(text.split())[:_SHOWN_CHARACTERS]}" for name, text in fields.items() if text
    )


def evaluate(folder: Path, eval_file: Path, task: str | None = None, worst: int = WORST) -> BundleEvaluation:
    """Answer every row of a file with the bundle in ``folder``, for all tasks that it serves, or for ``task`` alone.

    ``worst`` is how many of the worst rows are kept.

    Raises:
        InputError: the bundle does not serve the task, or a file that cannot be read or has no row for it.
        BundleNotFound, BundleRejected: there is no bundle, or it cannot be used.
    """
    bundle = open_bundle(folder, verify="lazy")
    tasks = bundle.manifest.serves if task is None else (served_task(bundle, task),)
    rows = evaluation_rows(eval_file, bundle.manifest, tasks)
    found = evaluate_bundle(folder, tasks, rows)
    return BundleEvaluation(
        bundle.manifest.name, tuple(tasks), str(eval_file), len(found.examples), found.metrics, found.classes,
        _worst(found, worst), _warnings(found.classes, bundle.manifest.labels),
    )  # fmt: skip


def _worst(found: Evaluation, count: int) -> list[WorstRow]:
    """The rows that are not right, those first whose right answer is least probable, or whose score is lowest."""
    perfect = 0.0 if any(example.metric.startswith("minus") for example in found.examples) else 100.0
    order = np.argsort(found.scores if found.worth is None else found.worth, kind="stable")
    wrong = [index for index in order.tolist() if found.scores[index] < perfect]
    chosen = [(found.examples[index], found.answers[index], float(found.scores[index])) for index in wrong[:count]]
    return [WorstRow(one.place, one.text, one.text_pair, one.expected, answer, score) for one, answer, score in chosen]


def _warnings(classes: ClassReport | None, labels: Sequence[str]) -> list[str]:
    if classes is None:
        return []
    few = [f"{one.label!r} ({one.support})" for one in classes.classes if one.support < MIN_ROWS]
    said = f"fewer than {MIN_ROWS} rows of a class: {', '.join(few)}; their figures say little"
    return [*classes.warnings(), *([said] if few else [])]
