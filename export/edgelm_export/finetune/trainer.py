"""transformers' Trainer, with the language-model head computed on the rows that have a label, and no others."""

from __future__ import annotations

import logging
import math
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback
from transformers.utils.logging import disable_progress_bar

from edgelm_export.finetune.data import IGNORED, Encoded


class LanguageModelTrainer(Trainer):  # type: ignore[misc]
    """A Trainer for masked and causal models whose loss skips the head where there is no label.

    With a quarter of the rows labelled this nearly halves a step: the head is the largest product of a small model.
    """

    def __init__(self, *args: Any, causal: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False
        self._causal = causal

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean cross entropy (float32 scalar) over the labelled rows."""
        labels = inputs["labels"]
        hidden = model.base_model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).last_hidden_state
        if self._causal:
            hidden, labels = hidden[:, :-1], labels[:, 1:]
        rows = labels != IGNORED
        head = model.lm_head if hasattr(model, "lm_head") else model.cls
        loss = torch.nn.functional.cross_entropy(head(hidden[rows]).float(), labels[rows])
        return (loss, {"loss": loss}) if return_outputs else loss


class ClassifierTrainer(Trainer):  # type: ignore[misc]
    """A Trainer for classifiers of texts, of any number of labels, and of tokens.

    The first kind learns from a teacher's probabilities as much as from the labels.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean cross entropy (float32 scalar): of class ids [batch], of labels that hold, float32 [batch, labels], or
        of tokens, ids [batch, sequence] without those that are IGNORED."""
        read = {name: inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in inputs}
        logits, labels = model(**read)["logits"].float(), inputs["labels"]
        if logits.ndim == 3:
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        elif labels.is_floating_point():
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        else:
            loss = torch.nn.functional.cross_entropy(logits, _targets(labels, logits.shape[-1], inputs.get("teacher")))
        return (loss, {"loss": loss, "logits": logits}) if return_outputs else loss


def _targets(labels: Tensor, classes: int, taught: Tensor | None) -> Tensor:
    """Half label and half teacher (Hinton et al., 2015); a row without a teacher has its label alone."""
    whole = torch.nn.functional.one_hot(labels, classes).float()
    return whole if taught is None else torch.where(taught.isnan(), whole, (whole + taught) / 2)


@dataclass(frozen=True)
class PaddingCollator:
    """Pads a batch to its longest row; ``labels`` default to the inputs themselves (raw causal lines)."""

    pad_id: int
    mask_id: int | None = None
    vocab_size: int = 0

    def __call__(self, rows: Sequence[Encoded]) -> dict[str, Tensor]:
        """int64 ``input_ids``, ``attention_mask`` and ``labels`` of [batch, longest]; class labels are [batch].

        Of a pair there are ``token_type_ids``, too; labels of which any number may hold are float32 [batch, labels].
        """
        longest = max(len(row["input_ids"]) for row in rows)
        input_ids = self._padded([row["input_ids"] for row in rows], longest, self.pad_id)
        mask = self._padded([[1] * len(row["input_ids"]) for row in rows], longest, 0)
        if "label" in rows[0]:
            labels = torch.tensor([row["label"] for row in rows])
            types = {
                name: self._padded([row[name] for row in rows], longest, 0)
                for name in ("token_type_ids",) if name in rows[0]
            }  # fmt: skip
            read = {"input_ids": input_ids, "attention_mask": mask, **types}
            return {**read, "labels": labels, **self._teacher(rows)}
        learned = [row["labels"] if "labels" in row else row["input_ids"] for row in rows]
        labels = self._padded(learned, longest, IGNORED)
        if self.mask_id is not None:
            input_ids, labels = self._masked(input_ids, labels)
        return {"input_ids": input_ids, "attention_mask": mask, "labels": labels}

    @staticmethod
    def _teacher(rows: Sequence[Encoded]) -> dict[str, Tensor]:
        """float32 [batch, classes], NaN in rows without a teacher; nothing where no row has one."""
        size = max(len(row.get("teacher", [])) for row in rows)
        none = [math.nan] * size
        return {"teacher": torch.tensor([row.get("teacher", none) for row in rows])} if size else {}

    @staticmethod
    def _padded(rows: Sequence[Sequence[int]], longest: int, value: int) -> Tensor:
        return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], dtype=torch.int64)

    def _masked(self, input_ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """40 % of the rows, as suits a small model (Wettig et al., 2023): 80 % masked, 10 % random, 10 % kept."""
        draw = torch.rand(input_ids.shape)
        chosen = (draw < 0.4) & (labels != IGNORED)
        random_ids = torch.randint(self.vocab_size, input_ids.shape)
        masked = torch.where(draw < 0.32, torch.full_like(input_ids, self.mask_id or 0), input_ids)
        replaced = torch.where((draw >= 0.32) & (draw < 0.36), random_ids, masked)
        return torch.where(chosen, replaced, input_ids), torch.where(chosen, labels, torch.full_like(labels, IGNORED))


class StderrLog(TrainerCallback):  # type: ignore[misc]
    """One line a report on stderr: stdout belongs to answers."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Print the figures of a training or an evaluation report."""
        figures = "  ".join(f"{name} {value:.4g}" for name, value in (logs or {}).items() if isinstance(value, float))
        print(f"step {state.global_step}/{state.max_steps}  {figures}", file=sys.stderr, flush=True)


def quiet(trainer: Trainer) -> Trainer:
    """Send the Trainer's reports to stderr and keep its warnings about things that do not concern a user away."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(StderrLog())
    logging.getLogger("transformers").setLevel(logging.ERROR)
    if trainer.args.disable_tqdm:
        disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    return trainer


def has_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware: otherwise it is slower than float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    flags = torch.cpu.get_capabilities()
    return any(flags.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
