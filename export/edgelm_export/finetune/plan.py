"""What fine-tuning is asked for, what it prepares, and what it reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import Trainer

from edgelm_export.class_report import ClassReport
from edgelm_export.finetune import data
from edgelm_export.finetune.base import Base
from edgelm_export.finetune.trainer import PaddingCollator
from edgelm_export.metrics import format_table


@dataclass(frozen=True)
class FinetuneOptions:
    """What to train, on what, and how.

    ``task`` is sentiment, classify, tag, mlm, clm, summary, description, or the last two with a comma between.
    """

    task: str
    base: str
    data: tuple[Path, ...]
    out: Path
    dev: Path | None = None
    dev_fraction: float = 0.05
    epochs: float = 3.0
    batch_size: int = 32
    learning_rate: float = 1e-4
    optimizer: str = "adamw"
    max_tokens: int | None = None
    vocab_size: int | None = None
    evaluations: int = 6
    patience: int = 3
    seed: int = 0
    resume: bool = False
    force: bool = False
    progress: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a trained model does on the development rows: metrics in percent, each class, and what is wrong with it."""

    metrics: Mapping[str, float]
    classes: ClassReport | None = None
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class FinetuneReport:
    """The development metrics of a finished training.

    ``aggregation`` is how the tokens of a token classifier become entities, which an export follows.
    """

    out: Path
    task: str
    train_rows: int
    dev_rows: int
    outcome: Outcome
    notes: tuple[str, ...] = ()
    aggregation: str | None = None

    @property
    def metrics(self) -> Mapping[str, float]:
        """Figures by name, in percent where they are shares."""
        return self.outcome.metrics

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        classes = self.outcome.classes
        return {
            "out": str(self.out), "task": self.task, "train_rows": self.train_rows, "dev_rows": self.dev_rows,
            "metrics": dict(self.metrics), **(classes.to_dict() if classes else {}),
            **({"aggregation": self.aggregation} if self.aggregation else {}),
            "warnings": list(self.outcome.warnings), "notes": list(self.notes),
        }  # fmt: skip

    def table(self) -> str:
        """The report for a person."""
        head = f"{self.task}: {self.train_rows} training and {self.dev_rows} development rows -> {self.out}"
        parts = [f"{head}\n{format_table(list(self.metrics.items()), ('metric', 'development'))}"]
        if self.outcome.classes:
            parts.append(self.outcome.classes.table())
        said = [f"warning: {one}" for one in self.outcome.warnings] + [f"note: {one}" for one in self.notes]
        return "\n\n".join([*parts, *(["\n".join(said)] if said else [])])


@dataclass(frozen=True)
class Prepared:
    """Everything that the Trainer is given, and what is asked of it at the end.

    ``trainer`` makes one; ``best`` is the metric by which the best step is kept, of those that ``figures`` gives; with
    none it is the loss.
    """

    base: Base
    train: Sequence[data.Encoded]
    dev: Sequence[data.Encoded]
    collator: PaddingCollator
    trainer: Callable[..., Trainer]
    evaluate: Callable[[Trainer], Outcome]
    best: str = "loss"
    figures: Callable[[Any], dict[str, float]] | None = None
    aggregation: str | None = None
    notes: Sequence[str] = field(default_factory=tuple)
