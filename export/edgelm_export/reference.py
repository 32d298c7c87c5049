"""The checkpoint in torch, float32: what every bundle is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.pytorch_utils import Conv1D

from edgelm_export.checkpoint import Checkpoint
from edgelm_export.quantize.ranges import Range
from edgelm_runtime.generate.guides import Guide
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.generate.sampling import edit_logits

_LINEAR = (torch.nn.Linear, Conv1D)


class Reference:
    """transformers' own model of a checkpoint, loaded once."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        classifier = checkpoint.task == "text-classification"
        auto: Any = AutoModelForSequenceClassification if classifier else AutoModelForCausalLM
        self.model = auto.from_pretrained(
            checkpoint.folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        ).eval()
        self._last_only = not classifier

    def logits(self, rows: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """Logits float32 [labels], or [vocab] of the last position, of each row of token ids, run one by one."""
        found: list[NDArray[np.float32]] = []
        with torch.inference_mode():
            for row in rows:
                logits = self.model(input_ids=torch.tensor([list(row)])).logits
                found.append((logits[0, -1] if self._last_only else logits[0]).numpy().copy())
        return found

    def logits_and_ranges(self, rows: Sequence[Sequence[int]]) -> tuple[list[NDArray[np.float32]], dict[str, Range]]:
        """`logits`, and the range of the inputs of every linear layer on the way, by its name."""
        ranges: dict[str, Range] = {}

        def note(name: str, inputs: NDArray[np.float32]) -> None:
            ranges[name] = Range.of(inputs).joined(ranges.get(name))

        return self.watched(rows, note), ranges

    def watched(
        self, rows: Sequence[Sequence[int]], seen: Callable[[str, NDArray[np.float32]], None]
    ) -> list[NDArray[np.float32]]:
        """`logits`, while `seen` is given the inputs, float32 [tokens, in], of every linear layer by its name."""

        def watch(name: str) -> Any:
            return lambda module, inputs: seen(name, inputs[0].flatten(0, -2).numpy())

        layers = [(name, part) for name, part in self.model.named_modules() if isinstance(part, _LINEAR)]
        handles = [part.register_forward_pre_hook(watch(name)) for name, part in layers]
        logits = self.logits(rows)
        for handle in handles:
            handle.remove()
        return logits

    def greedy(
        self, prompt: Sequence[int], options: GenerationOptions, end: int | None, guide: Guide | None = None
    ) -> list[int]:
        """The token ids of a greedy answer, without the end token."""
        return greedy_ids(self.model, prompt, options, end, guide)


def greedy_ids(
    model: Any, prompt: Sequence[int], options: GenerationOptions, end: int | None, guide: Guide | None = None
) -> list[int]:
    """Greedy answer of a transformers causal model, without the token ``end``.

    A loop of our own and not ``generate``, whose repetition rules look at the prompt as well: a summary may quote.
    """
    answer: list[int] = []
    step, cache = torch.tensor([list(prompt)], device=model.device), None
    with torch.inference_mode():
        for _ in range(options.max_new_tokens):
            out = model(input_ids=step, past_key_values=cache, use_cache=True)
            row = out.logits[0, -1].float().cpu().numpy()
            row = edit_logits(row if guide is None else guide.favour(row), np.array(answer, np.int64), options)
            token = int(row.argmax())
            if token == end:
                break
            answer.append(token)
            if guide is not None:
                guide.push(token)
            step, cache = torch.tensor([[token]], device=model.device), out.past_key_values
    return answer
