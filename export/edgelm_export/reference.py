"""The checkpoint in torch, float32: what every bundle is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgelm_export.checkpoint import Checkpoint


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

    def greedy(self, prompt: Sequence[int], **options: Any) -> list[int]:
        """The token ids of a greedy answer, the end token included."""
        return greedy_ids(self.model, prompt, **options)


def greedy_ids(model: Any, prompt: Sequence[int], **options: Any) -> list[int]:
    """Greedy answer of a transformers model to a prompt; ``options`` are those of ``generate``."""
    input_ids = torch.tensor([list(prompt)], device=model.device)
    with torch.inference_mode():
        ids = model.generate(
            input_ids, attention_mask=torch.ones_like(input_ids), do_sample=False,
            pad_token_id=model.config.eos_token_id, **options,
        )  # fmt: skip
    answer: list[int] = ids[0, len(prompt) :].tolist()
    return answer
