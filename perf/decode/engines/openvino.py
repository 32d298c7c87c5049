"""OpenVINO GenAI, exported and quantized by optimum-intel's command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.decode.protocol import Seen, main

PROPOSED, NGRAM = 8, 3


def convert(checkpoint: Path, out: Path, precision: str) -> None:
    grouped = ["--group-size", "64"] if precision == "int4" else []  # the default, 128, does not divide 576
    command = [str(Path(sys.executable).with_name("optimum-cli")), "export", "openvino", "--model", str(checkpoint)]
    subprocess.run(
        [*command, "--task", "text-generation-with-past", "--weight-format", precision, *grouped, str(out)], check=True
    )


class Engine:
    """`LLMPipeline` with its defaults (the cache in 8 bit), on token ids."""

    def __init__(self) -> None:
        import numpy as np
        import openvino
        import openvino_genai

        class Streamer(openvino_genai.StreamerBase):  # type: ignore[misc, name-defined]
            """Passes on token ids."""

            def __init__(self, seen: Seen) -> None:
                super().__init__()
                self._seen = seen

            def write(self, token: int | list[int]) -> Any:
                for one in token if isinstance(token, list) else [token]:
                    self._seen(one)
                return openvino_genai.StreamingStatus.RUNNING

            def end(self) -> None:
                """Nothing is held back."""

        self._streamer = Streamer
        self._inputs = lambda prompt: openvino_genai.TokenizedInputs(
            openvino.Tensor(np.array([prompt], np.int64)), openvino.Tensor(np.ones((1, len(prompt)), np.int64))
        )
        self._genai = openvino_genai

    def load(self, model: Path, threads: int, lookup: bool) -> None:
        extra = {"prompt_lookup": True} if lookup else {}
        self._pipeline = self._genai.LLMPipeline(str(model), "CPU", INFERENCE_NUM_THREADS=threads, **extra)
        self._config = self._genai.GenerationConfig()
        self._config.ignore_eos = True
        self._config.do_sample = False
        if lookup:
            self._config.num_assistant_tokens = PROPOSED
            self._config.max_ngram_size = NGRAM

    def answer(self, prompt: Sequence[int], count: int, seen: Seen) -> None:
        self._config.max_new_tokens = count
        self._pipeline.generate(self._inputs(list(prompt)), self._config, self._streamer(seen))


if __name__ == "__main__":
    main(Engine, convert)
