"""onnxruntime-genai, with models of its own builder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from perf.decode.protocol import Seen, main


def convert(checkpoint: Path, out: Path, precision: str) -> None:
    fast = [] if precision == "fp32" else ["--extra_options", "accuracy_level=4"]
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", "unnamed", "-i", str(checkpoint)]
    subprocess.run(
        [*builder, "-o", str(out), "-p", precision, "-e", "cpu", "-c", str(out / "cache"), *fast], check=True
    )
    shutil.rmtree(out / "cache", ignore_errors=True)


class Engine:
    """A `Generator` of its own for every answer."""

    def __init__(self) -> None:
        import onnxruntime_genai

        self._genai = onnxruntime_genai

    def load(self, model: Path, threads: int, lookup: bool) -> None:
        config = self._genai.Config(str(model))
        config.overlay(
            '{"model": {"decoder": {"session_options": {"intra_op_num_threads": %d}}}}' % threads  # noqa: UP031
        )
        self._model = self._genai.Model(config)

    def answer(self, prompt: Sequence[int], count: int, seen: Seen) -> None:
        parameters = self._genai.GeneratorParams(self._model)
        length = len(prompt) + count
        parameters.set_search_options(do_sample=False, max_length=length, min_length=length)
        generator = self._genai.Generator(self._model, parameters)
        generator.append_tokens(list(prompt))
        for _ in range(count):
            generator.generate_next_token()
            seen(int(generator.get_next_tokens()[0]))


if __name__ == "__main__":
    main(Engine, convert)
