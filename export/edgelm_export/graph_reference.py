"""What a bundle is compared with where its graph was not built from the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgelm_export.architecture import GraphSource, Imported
from edgelm_export.checkpoint import Checkpoint
from edgelm_export.imported import OnnxReference
from edgelm_export.passes.inputs import IDS, SEGMENTS
from edgelm_export.passes.watching import watch
from edgelm_export.reference import Begun, Reference, Tokens
from edgelm_runtime.errors import ParityError
from edgelm_runtime.tasks.rows import Row

TOLERANCE = 1e-3  # of the prepared graph in float32, beside torch, in numbers whose largest is 1


def reference_of(checkpoint: Checkpoint) -> Reference:
    """torch's model, or the ONNX graph where there is none; ranges are those of the graph where it was not built."""
    if isinstance(checkpoint.architecture, Imported):
        return ImportedReference(checkpoint, checkpoint.architecture)
    if isinstance(checkpoint.architecture, GraphSource):
        return TracedReference(checkpoint, checkpoint.architecture)
    return Reference(checkpoint)


class TracedReference(Reference):
    """torch's model, and the traced graph, whose layers have names of their own."""

    def __init__(self, checkpoint: Checkpoint, source: GraphSource) -> None:
        super().__init__(checkpoint)
        self._graph = source.graph(checkpoint.wanted)

    def watched(
        self, rows: Sequence[Tokens], seen: Callable[[str, NDArray[np.float32]], None]
    ) -> list[NDArray[np.float32]]:
        """As `Reference.watched`, by the names of the graph's layers.

        Raises:
            ParityError: the graph does not answer like torch.
        """
        expected = self.logits(rows)
        check_same(expected, watch(self._graph, [_feed(row) for row in rows], seen))
        return expected


class ImportedReference(Reference):
    """The graph as it came, in float32 in onnxruntime: there are no weights for torch."""

    def __init__(self, checkpoint: Checkpoint, source: Imported) -> None:
        self._graph = source.graph(checkpoint.wanted)
        self._original = OnnxReference(source.folder, checkpoint.wanted)
        self._kept = checkpoint.kept_ids

    def logits(self, rows: Sequence[Tokens]) -> list[NDArray[np.float32]]:
        """As `Reference.logits`."""
        feeds = [_feed(row) for row in rows]
        rows = [feed[IDS][0] if self._kept is None else self._kept[feed[IDS][0]] for feed in feeds]
        segments = [feed[SEGMENTS][0] for feed in feeds]
        return [self._original.output(*map(list, row)) for row in zip(rows, segments, strict=True)]

    def watched(
        self, rows: Sequence[Tokens], seen: Callable[[str, NDArray[np.float32]], None]
    ) -> list[NDArray[np.float32]]:
        """As `TracedReference.watched`."""
        expected = self.logits(rows)
        check_same(expected, watch(self._graph, [_feed(row) for row in rows], seen))
        return expected


def _feed(row: Tokens) -> dict[str, NDArray[np.int64]]:
    """One row of every input that a graph may have."""
    if isinstance(row, Begun):
        raise TypeError(f"{row}: an encoder's graph has no answer that was begun")
    ids, segments = (row.ids, row.type_ids) if isinstance(row, Row) else (list(row), [0] * len(row))
    return {IDS: np.array([ids]), SEGMENTS: np.array([segments])}


def check_same(expected: Sequence[NDArray[np.float32]], found: Sequence[NDArray[np.float32]]) -> None:
    """Raise ParityError where the prepared graph does not answer like what it was made from."""
    for wanted, answer in zip(expected, found, strict=True):
        error = float(np.abs(wanted - answer).max())
        if error > TOLERANCE * max(1.0, float(np.abs(wanted).max())):
            raise ParityError(
                f"the graph in float32 does not answer like the checkpoint: off by {error:.2g}, accepted is "
                f"{TOLERANCE:g}. Nothing was written; report this with the checkpoint's config.json"
            )
