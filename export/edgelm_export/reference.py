"""The checkpoint in torch, float32: what every bundle is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.pytorch_utils import Conv1D

from edgelm_export.checkpoint import Checkpoint
from edgelm_export.checkpoint.reading import GENERATORS
from edgelm_export.mapped import torch_model
from edgelm_export.quantize.ranges import Range
from edgelm_export.vector import Vector
from edgelm_runtime.generate.edits import Edits
from edgelm_runtime.generate.guides import Guide
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.manifest import DecoderSpec
from edgelm_runtime.tasks.rows import Row

_LINEAR = (torch.nn.Linear, Conv1D)


@dataclass(frozen=True)
class Begun:
    """A text for an encoder, and the beginning of an answer to it."""

    ids: Sequence[int]
    answer: Sequence[int]


Tokens = Sequence[int] | Row | Begun


class Reference:
    """transformers' own model of a checkpoint, loaded once."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.model = torch_model(checkpoint)
        self._wanted = checkpoint.wanted
        self._vector = Vector(checkpoint.wanted)
        self._start = start_of(checkpoint.decoder)

    def logits(self, rows: Sequence[Tokens]) -> list[NDArray[np.float32]]:
        """The output for each row of token ids, run one by one, in float32.

        Logits [labels] of a text, [tokens, labels] of a token classifier, [vocab] of a generator's last position, or a
        vector [width]. Those of a sequence-to-sequence model follow the beginning of an answer.
        """
        with torch.inference_mode():
            return [self._output(row).numpy().copy() for row in rows]

    def _output(self, row: Tokens) -> torch.Tensor:
        ids = row.ids if isinstance(row, Row | Begun) else row
        given: dict[str, Any] = {"input_ids": torch.tensor([list(ids)])}
        if self._start:
            answer = row.answer if isinstance(row, Begun) else ()
            given["decoder_input_ids"] = torch.tensor([[*self._start, *answer]])
        if self._wanted.segments and isinstance(row, Row):
            given["token_type_ids"] = torch.tensor([row.type_ids])
        if self._wanted.task == "feature-extraction":
            vector: torch.Tensor = self._vector(self.model(**given).last_hidden_state)[0]
            return vector
        if self._wanted.task == "text-generation":  # a head of 150,000 tokens is much of the work
            given["logits_to_keep"] = 1
        logits: torch.Tensor = self.model(**given).logits[0]
        return logits[-1] if self._wanted.task in GENERATORS else logits

    def logits_and_ranges(self, rows: Sequence[Tokens]) -> tuple[list[NDArray[np.float32]], dict[str, Range]]:
        """`logits`, and the range of the inputs of every linear layer on the way, by its name."""
        ranges: dict[str, Range] = {}

        def note(name: str, inputs: NDArray[np.float32]) -> None:
            ranges[name] = Range.of(inputs).joined(ranges.get(name))

        return self.watched(rows, note), ranges

    def watched(
        self, rows: Sequence[Tokens], seen: Callable[[str, NDArray[np.float32]], None]
    ) -> list[NDArray[np.float32]]:
        """`logits`, while `seen` is given the inputs, float32 [tokens, in], of every linear layer by its name."""

        def watch(name: str) -> Any:
            return lambda module, inputs: seen(name, inputs[0].flatten(0, -2).numpy())

        parts = [*self.model.named_modules(), *self._vector.named_modules()]
        layers = [(name, part) for name, part in parts if isinstance(part, _LINEAR)]
        handles = [part.register_forward_pre_hook(watch(name)) for name, part in layers]
        logits = self.logits(rows)
        for handle in handles:
            handle.remove()
        return logits

    def greedy(
        self, prompt: Sequence[int], options: GenerationOptions, ends: Sequence[int], guide: Guide | None = None
    ) -> list[int]:
        """The token ids of a greedy answer, up to the first of ``ends``."""
        return greedy_ids(self.model, prompt, options, ends, guide, start=self._start)

    def begun(self, rows: Sequence[Row], ends: Sequence[int], most: int) -> list[Begun]:
        """The rows with the first tokens of their greedy answers: 1 to ``most``, one more for every next row."""
        options = [GenerationOptions(max_new_tokens=1 + index % most) for index in range(len(rows))]
        return [Begun(row.ids, self.greedy(row.ids, each, ends)) for row, each in zip(rows, options, strict=True)]


def start_of(decoder: DecoderSpec | None) -> list[int]:
    """What the decoder of a sequence-to-sequence model reads before an answer; nothing for other models."""
    if decoder is None:
        return []
    return [decoder.start_id, *([] if decoder.forced_bos_id is None else [decoder.forced_bos_id])]


def greedy_ids(
    model: Any, prompt: Sequence[int], options: GenerationOptions, ends: Sequence[int], guide: Guide | None = None,
    *, start: Sequence[int] = (),
) -> list[int]:  # fmt: skip
    """Greedy answer of a transformers model, up to the first of ``ends``; ``start`` is what a decoder of its own reads.

    A loop of our own and not ``generate``, which has no guides and no ``penalize_prompt``; the rules are the runtime's.
    """
    begun = np.array(start or prompt, np.int64)
    options = options.after(len(begun))
    edits = Edits(options, begun, vocab=model.get_output_embeddings().out_features, eos_ids=ends)
    answer: list[int] = []
    step, cache = torch.tensor([list(start or prompt)], device=model.device), None
    with torch.inference_mode():
        given: dict[str, Any] = {}
        if start:
            given = {"encoder_outputs": model.get_encoder()(torch.tensor([list(prompt)], device=model.device))}
        for _ in range(options.max_new_tokens):
            read = {"decoder_input_ids" if start else "input_ids": step}
            out = model(**read, **given, past_key_values=cache, use_cache=True)
            row = out.logits[0, -1].float().cpu().numpy()
            edits.forbid(row, len(answer))
            favoured = row if guide is None else guide.favour(row)
            token = int(edits.change_or_yield(favoured, np.array([*edits.before, *answer], np.int64)).argmax())
            if token in ends:
                break
            answer.append(token)
            if guide is not None:
                guide.push(token)
            step, cache = torch.tensor([[token]], device=model.device), out.past_key_values
    return answer
