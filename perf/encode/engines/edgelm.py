"""edgelm, through its command and its public interface."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.encode.protocol import About, Ids, main

ABOUT = About("edgelm", ("fp32", "int8"), "edgelm")


def convert(checkpoint: Path, out: Path, precision: str) -> None:
    """`edgelm export`, verification included."""
    command = [sys.executable, "-m", "edgelm", "export", str(checkpoint), "--task", "sentiment", "--out", str(out)]
    subprocess.run([*command, "--precision", precision], check=True)


class Engine:
    """`edgelm.load` with the checks and settings that any program has."""

    def __init__(self) -> None:
        import onnxruntime  # noqa: F401  (edgelm imports these two when it first loads)
        import tokenizers  # noqa: F401

        import edgelm

        self._edgelm = edgelm

    def load(self, model: Path, threads: int) -> None:
        self._model = self._edgelm.load(model, threads=threads)

    def logits(self, rows: Sequence[Ids]) -> Any:
        return self._model.logits(rows)

    def answer(self, text: str) -> object:
        return self._model(text).label

    def answers(self, texts: Sequence[str]) -> Sequence[object]:
        return [result.label for result in self._model.batch(texts)]


if __name__ == "__main__":
    main(Engine, convert)
