"""edgelm, through its command and its public interface."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.decode.protocol import Seen, main


def convert(checkpoint: Path, out: Path, precision: str) -> None:
    """`edgelm export`, verification included."""
    command = [sys.executable, "-m", "edgelm", "export", str(checkpoint), "--task", "summary", "--out", str(out)]
    subprocess.run([*command, "--precision", precision], check=True)


class Engine:
    """`edgelm.load` with the checks and settings that any program has."""

    def __init__(self) -> None:
        import onnxruntime  # noqa: F401  (edgelm imports these two when it first loads)
        import tokenizers  # noqa: F401

        import edgelm

        self._edgelm = edgelm

    def load(self, model: Path, threads: int, lookup: bool) -> None:
        self._options: dict[str, Any] = {
            "temperature": 0.0,
            "ignore_eos": True,
            "no_repeat_ngram_size": 0,
            "repetition_penalty": 1.0,
            "prompt_lookup_num_tokens": 8 if lookup else 0,
        }
        self._model = self._edgelm.load(model, task="summary", threads=threads)

    def answer(self, prompt: Sequence[int], count: int, seen: Seen) -> None:
        for token in self._model.stream_ids(prompt, max_new_tokens=count, **self._options):
            seen(token)


if __name__ == "__main__":
    main(Engine, convert)
