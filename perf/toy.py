"""Checkpoints that are trained in seconds on made-up rows, for the smoke runs of what needs a metric."""

from __future__ import annotations

from pathlib import Path

from tests.export.rows import pairs, reviews, write_rows


def train(task: str, folder: Path, *, epochs: float = 5.0) -> tuple[Path, Path]:
    """Train a tiny classifier ("sentiment") or generator ("summary,description"): the checkpoint, and fresh rows."""
    from edgelm_export.finetune import FinetuneOptions, finetune

    folder.mkdir(parents=True, exist_ok=True)
    make = reviews if task == "sentiment" else pairs
    data = write_rows(folder / "train.jsonl", make(240))
    rows = write_rows(folder / "dev.jsonl", make(120, seed=1))
    finetune(
        FinetuneOptions(
            task, base="tiny", data=(data,), out=folder / "checkpoint", vocab_size=400, epochs=epochs, batch_size=16,
            learning_rate=1e-3, dev_fraction=0.25, evaluations=1,
        )
    )  # fmt: skip
    return folder / "checkpoint", rows
