"""Rows of token ids through an encoder's graph, one by one or several on all threads.

Rows are run by themselves, [1, n], never padded together: with one activation scale for the whole tensor, texts in one
batch would change each other's answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import BundleRejected, InputError
from ..placement import Engine, LoadOptions
from ..session import Session, input_shapes, output_shapes, run
from ..workers import started

Progress = Callable[[int], None]
Values = NDArray[np.float32]

# Below this many rows a second session costs more than it saves.
_MIN_POOLED = 8


@dataclass(frozen=True)
class Row:
    """Token ids with their special tokens, and the segment that each belongs to."""

    ids: list[int]
    type_ids: list[int]


@dataclass(frozen=True)
class Output:
    """What the graph has to give: its name, and its width, which is free where it is 0; `by_token` one row a token."""

    name: str
    width: int = 0
    by_token: bool = False


class Rows:
    """Runs rows. Safe to share between threads.

    Raises BundleRejected when the graph is not one that reads rows of ids and gives `output`, DeviceError when no
    variant runs on this machine.
    """

    def __init__(self, bundle: Bundle, options: LoadOptions, output: Output, vocabulary: int) -> None:
        self.engine = Engine(bundle, options)
        self.context = bundle.manifest.tokenizer.max_tokens
        self._output = output
        self._vocabulary = vocabulary
        self._session = self.engine.session
        self._one_core: Session | None = self._session if self.engine.threads == 1 else None
        self._lock = Lock()
        inputs = input_shapes(self._session)
        self._typed = "token_type_ids" in inputs
        self.width = self._checked_width(inputs, output_shapes(self._session))

    def one(self, row: Row, session: Session | None = None) -> Values:
        """The output of one row: float32 [width], or [tokens, width] of an output by token.

        Raises BundleRejected where it is not finite, or of another shape.
        """
        feeds = {"input_ids": np.asarray([row.ids], np.int64)}
        if self._typed:
            feeds["token_type_ids"] = np.asarray([row.type_ids], np.int64)
        (values,) = run(session or self._session, feeds, (self._output.name,))
        expected = (1, len(row.ids), self.width) if self._output.by_token else (1, self.width)
        wanted, found = f"{expected} values, finite: True", _kind_of(values)
        if found != wanted:
            raise BundleRejected(
                f"{self.engine.variant.file} answered {found}; expected {wanted}; export it again",
                what=self.engine.variant.file,
                expected=wanted,
                found=found,
            )
        answer: Values = values[0]
        return answer

    def checked(self, ids: Sequence[int], type_ids: Sequence[int] | None = None) -> Row:
        """A row of a caller's ids; without `type_ids` it is all of the first segment.

        Raises InputError for no ids, more than the context, ids outside the vocabulary, or types of another length.
        """
        try:
            count = len(ids)
            row = np.asarray(ids if 1 <= count <= self.context else [0])
        except (TypeError, ValueError) as error:
            raise InputError(f"a row must be a flat list of integer token ids ({error})") from None
        if not 1 <= count <= self.context:
            raise InputError(
                f"a row has {count} token ids, accepted are 1 to {self.context}; cut it, or call with text"
            )
        if row.ndim != 1 or row.dtype.kind not in "iu":
            raise InputError(f"a row must be a flat list of integer token ids, found {row.ndim}-d {row.dtype}")
        if row.min() < 0 or row.max() >= self._vocabulary:
            raise InputError(f"token ids go from {row.min()} to {row.max()}, accepted are 0 to {self._vocabulary - 1}")
        types = [0] * count if type_ids is None else _segments(type_ids)
        if types is None or len(types) != count:
            raise InputError(f"type_ids are {type_ids!r:.60}: one 0 or 1 for each of the {count} token ids is needed")
        return Row(row.tolist(), types)

    def in_pool(
        self, work: Callable[[int, Session], None], sizes: Sequence[int], progress: Progress | None = None
    ) -> None:
        """Call `work(index, session)` for every index, largest size first, on all threads.

        Small models gain nothing from splitting one text over the cores, so each thread runs whole texts on one core.
        """
        order = sorted(range(len(sizes)), key=lambda index: -sizes[index])
        if self.engine.workers > 1 and len(order) >= _MIN_POOLED and self._pooled(work, order, progress):
            return
        for done, index in enumerate(order, start=1):
            work(index, self._session)
            if progress:
                progress(done)

    def _pooled(self, work: Callable[[int, Session], None], order: Sequence[int], progress: Progress | None) -> bool:
        """Do that on other threads; False where the system does not let this process start any."""
        session = self._one_core_session()
        todo = deque(order)
        done: SimpleQueue[BaseException | None] = SimpleQueue()

        def drain() -> None:
            with suppress(IndexError):  # nothing is left
                while True:
                    error = _error_of(work, todo.popleft(), session)
                    if error is not None:
                        todo.clear()
                    done.put(error)

        threads = started(drain, min(self.engine.workers, len(order)))
        if not threads:
            return False
        try:
            for number in range(1, len(order) + 1):
                if (error := done.get()) is not None:
                    raise error
                if progress:
                    progress(number)
        finally:
            # After an error or Ctrl-C the texts that wait are dropped; only those being read are waited for.
            todo.clear()
            for thread in threads:
                thread.join()
        return True

    def _one_core_session(self) -> Session:
        with self._lock:
            if self._one_core is None:
                self._one_core = self.engine.one_core()
            return self._one_core

    def _checked_width(
        self, inputs: dict[str, list[int | str | None]], outputs: dict[str, list[int | str | None]]
    ) -> int:
        name, width, file = self._output.name, self._output.width, self.engine.variant.file
        found = (outputs.get(name) or [None])[-1]
        # A free last dimension is accepted where the width is known: every answer is checked for it.
        fits = name in outputs and (found == width or (width > 0) != isinstance(found, int))
        if not fits or "input_ids" not in inputs or set(inputs) - {"input_ids", "token_type_ids"}:
            shape = f"{name} [batch, {'sequence, ' if self._output.by_token else ''}{width or 'width'}]"
            raise BundleRejected(
                f"{file} does not fit this task: inputs {inputs}, outputs {outputs}; expected input_ids "
                f"[batch, sequence] and {shape}; export it again",
                what=file,
                expected=f"input_ids -> {shape}",
                found=f"{inputs} -> {outputs}",
            )
        return found if isinstance(found, int) else width


def _error_of(work: Callable[[int, Session], None], index: int, session: Session) -> BaseException | None:
    """What `work` raises, None where it does not."""
    try:
        work(index, session)
    except BaseException as error:
        return error
    return None


def _kind_of(values: object) -> str:
    """What a graph answered, in words."""
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        return f"no numbers, but {getattr(values, 'dtype', type(values).__name__)}"
    return f"{values.shape} values, finite: {bool(np.isfinite(values).all())}"


def _segments(type_ids: object) -> list[int] | None:
    """Segments as a flat list of 0 and 1; None for anything else."""
    try:
        types = np.asarray(type_ids)
    except ValueError:
        return None
    flat = types.ndim == 1 and types.dtype.kind in "iu" and not set(types.tolist()) - {0, 1}
    return types.tolist() if flat else None
