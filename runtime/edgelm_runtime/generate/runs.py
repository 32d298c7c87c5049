"""Runs of a generator graph over one cache, with every input and output bound to memory that stays where it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import BundleRejected
from ..session import Binding, Interrupt, OrtValue, Session, bind, ort_value, rebind, run_bound
from .cache import KVCache
from .control import Control

Ids = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]
Result = TypeVar("Result")
STEP_INPUTS = ("input_ids", "position_ids", "seqlens_k", "total_sequence_length", "logits_to_keep")


class Runs:
    """Reads tokens into the cache of some sequences, any number at a time, and gives the logits of the last.

    `step_inputs` are those of STEP_INPUTS that the graph has; `constants` are inputs that stay the same. A length that
    was read before is bound already. A `control` may end a run.
    """

    def __init__(
        self,
        session: Session,
        step_inputs: Sequence[str],
        cache: KVCache,
        vocab: int,
        control: Control | None = None,
        constants: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> None:
        self._session = session
        self._control = control
        self._step_inputs = step_inputs
        self._vocab = vocab
        self._sequences = cache.sequences
        self._cache = cache
        self._lengths = np.zeros(cache.sequences, dtype=np.int32)
        self._total = np.zeros((), dtype=np.int32)
        self._kept = {"seqlens_k": self._lengths, "total_sequence_length": self._total, **(constants or {})}
        self._fixed = {name: ort_value(array) for name, array in self._kept.items()}
        self._shapes: dict[tuple[int, int], _Shape] = {}
        self._bound: tuple[int, int] | None = None
        self._binding: Binding = None

    def read(self, tokens: Ids | Sequence[Sequence[int]], past: Ids | Sequence[int], keep: int = 1) -> Logits:
        """Read `tokens` (int64 [sequences, n]) after `past` (int64 [sequences]) tokens of each sequence.

        Returns float32 [sequences, keep, vocab], the logits of the last `keep` tokens, in memory that the next call
        with the same sizes writes again. Raises Interrupted when the control has called.
        """
        ids = np.asarray(tokens, dtype=np.int64)
        shape = self._bind((ids.shape[1], keep))
        before = np.asarray(past, dtype=np.int64)
        shape.ids[...] = ids
        np.add(shape.offsets, before[:, None], out=shape.positions)
        self._lengths[...] = before + (ids.shape[1] - 1)
        self._total[...] = self._lengths.max() + 1
        interruptible(self._control, lambda interrupt: run_bound(self._session, self._binding, interrupt))
        return shape.logits

    def _bind(self, size: tuple[int, int]) -> _Shape:
        if self._bound == size:
            return self._shapes[size]
        if size not in self._shapes:
            self._shapes[size] = _Shape(self._sequences, size, self._vocab)
        shape = self._shapes[size]
        inputs = {name: value for name, value in shape.inputs.items() if name in self._step_inputs}
        outputs = {"logits": shape.output}
        if self._binding is None:
            values = {name: ort_value(array) for name, array in self._cache.arrays.items()}
            past, present = KVCache.past(values), KVCache.present(values)
            self._binding = bind(self._session, {**inputs, **self._fixed, **past}, {**outputs, **present})
        else:
            rebind(self._binding, inputs, outputs)
        self._bound = size
        return shape


def interruptible(control: Control | None, work: Callable[[Interrupt | None], Result]) -> Result:
    """A run that the control, if there is one, may stop, and times. Raises Interrupted when it has."""
    if control is None:
        return work(None)
    control.check()
    start = perf_counter()
    try:
        return work(control.interrupt)
    except BundleRejected:
        control.check()
        raise
    finally:
        control.run_ms += (perf_counter() - start) * 1000.0


class _Shape:
    """The memory of one number of tokens and of logits."""

    def __init__(self, sequences: int, size: tuple[int, int], vocab: int) -> None:
        length, keep = size
        self.ids: Ids = np.zeros((sequences, length), dtype=np.int64)
        self.positions: Ids = np.zeros((sequences, length), dtype=np.int64)
        self.offsets: Ids = np.arange(length, dtype=np.int64)[None]
        self.logits: Logits = np.empty((sequences, keep, vocab), dtype=np.float32)
        # The values are kept with their arrays: a tensor does not own the numpy memory under it.
        arrays: Mapping[str, npt.NDArray[Any]] = {
            "input_ids": self.ids,
            "position_ids": self.positions,
            "logits_to_keep": np.array([keep], dtype=np.int64),
        }
        self._arrays = arrays
        self.inputs: dict[str, OrtValue] = {name: ort_value(array) for name, array in arrays.items()}
        self.output: OrtValue = ort_value(self.logits)
