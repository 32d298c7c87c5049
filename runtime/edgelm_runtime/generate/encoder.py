"""The encoder of a sequence-to-sequence model: it reads a text once, and the decoder attends to what it gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BundleRejected
from ..manifest import DecoderSpec
from ..session import Session, input_shapes, output_shapes, run
from .cache import CacheLayout
from .control import Control
from .runs import Ids, interruptible

PREFIX = "encoder."
MASK = "encoder_attention_mask"


@dataclass(frozen=True)
class Source:
    """Texts as the decoder sees them: keys and values of every layer, float32 [texts, heads, tokens, head size].

    They are named like those of a KVCache. `mask` (int32 [texts, tokens]) is 0 behind the end of a shorter text.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    mask: npt.NDArray[np.int32]

    @property
    def inputs(self) -> dict[str, npt.NDArray[Any]]:
        """The decoder's inputs by name."""
        return {**{f"{PREFIX}{name}": array for name, array in self.arrays.items()}, MASK: self.mask}

    @classmethod
    def joined(cls, sources: Sequence[Source]) -> Source:
        """Texts that were read one by one, for answers that are made together."""
        lengths = [source.mask.shape[1] for source in sources]
        mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int32)
        arrays = {}
        for name, first in sources[0].arrays.items():
            _, heads, _, size = first.shape
            arrays[name] = np.zeros((len(sources), heads, max(lengths), size), np.float32)
            for index, source in enumerate(sources):
                arrays[name][index, :, : lengths[index]] = source.arrays[name][0]
        return cls(arrays, mask)


class Encoder:
    """An encoder's graph, and what its decoder begins an answer with. Safe to share between threads.

    Raises BundleRejected for a graph outside the contract.
    """

    def __init__(self, session: Session, spec: DecoderSpec, layout: CacheLayout, decoder_inputs: Iterable[str]) -> None:
        self.session = session
        self.spec = spec
        forced = () if spec.forced_bos_id is None else (spec.forced_bos_id,)
        self.start: Ids = np.array([spec.start_id, *forced], dtype=np.int64)
        self._names = [f"{layer}.{part}" for layer in range(layout.layers) for part in ("key", "value")]
        inputs, outputs = input_shapes(session), output_shapes(session)
        wanted = {f"{PREFIX}{name}" for name in self._names}
        shapes = {tuple(shape[1::2]) for shape in outputs.values() if len(shape) == 4}
        taken = {name for name in decoder_inputs if name.startswith("encoder")}
        if set(inputs) != {"input_ids"} or set(outputs) != wanted or taken != wanted | {MASK} or len(shapes) != 1:
            raise BundleRejected(
                f"the encoder has inputs {list(inputs)} and outputs {outputs}, and the decoder takes {sorted(taken)}; "
                f"accepted: input_ids, {PREFIX}0.key, {PREFIX}0.value, ... of one shape [texts, heads, tokens, head "
                f"size] for each of {layout.layers} layers, and {MASK}; export the bundle again",
                what="encoder",
                expected=", ".join(sorted(wanted)),
                found=", ".join(outputs),
            )

    def read(self, ids: Ids, control: Control | None = None) -> Source:
        """Read a text (int64 [n]). Raises Interrupted when the control has called."""
        feeds = {"input_ids": ids[None]}
        names = [f"{PREFIX}{name}" for name in self._names]
        arrays = interruptible(control, lambda interrupt: run(self.session, feeds, names, interrupt))
        return Source(dict(zip(self._names, arrays, strict=True)), np.ones((1, len(ids)), np.int32))
