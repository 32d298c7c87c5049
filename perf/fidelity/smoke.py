"""Tiny checkpoints with random weights, and rows whose right answers mean nothing: it shows that everything runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from edgelm_export.texts import REVIEWS
from perf.bench import ROOT


def checkpoint_and_rows(home: str, work: Path) -> tuple[Path, Path]:
    """The smoke shape of perf.encode or perf.decode, and a file of rows for it."""
    checkpoint, rows = work / f"smoke-{home}", work / f"smoke-{home}.jsonl"
    if not checkpoint.is_dir():
        subprocess.run([sys.executable, "-m", f"perf.{home}.shapes", "smoke", str(checkpoint)], cwd=ROOT, check=True)
    if home == "encode":
        lines = [{"text": text, "label": index % 2} for index, text in enumerate(REVIEWS["en"])]
    else:
        lines = [{"text": text, "summary": text.split()[0]} for text in REVIEWS["en"]]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return checkpoint, rows
