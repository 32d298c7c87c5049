"""Conversions of encoders, and what each of their processes is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgelm_runtime.bundle import default_bundles
from perf.beside import harness as beside
from perf.beside.peers import size_of
from perf.encode.peers import Peer
from perf.encode.protocol import Plan
from perf.encode.report import BATCH, LENGTHS, SAME_LENGTH, Row
from perf.encode.shapes import DEFAULT_BUNDLE, review_lengths, row

EMBEDDED = ("minilm-l6", "smoke")  # the shapes that embedders are given
VARIETY, SMOKE_VARIETY = 4, 1  # rows of each length, batches of one length
SECONDS, REPETITIONS = 0.5, 20


class Bench(beside.Bench[Peer]):
    """What all benches do, and which engine gets which shape."""

    def convert(self, checkpoint: Path, shape: str, plan: Plan) -> Iterator[Row]:
        """A row for each engine and precision; embedders get only the shape that embedders have."""
        for peer in self.engines:
            if peer.gives == "embedding" and shape not in EMBEDDED:
                continue
            for precision, folder in self.converted(peer, checkpoint, shape):
                yield Row(peer, precision, folder, size_of(folder), plan)

    def default_bundle(self, plan: Plan) -> list[Row]:
        """The default English bundle, where edgelm takes part."""
        folder = default_bundles()[DEFAULT_BUNDLE]
        ours = [peer for peer in self.engines if peer.name == "edgelm"]
        return [Row(peer, "int8", folder, size_of(folder), plan, bundle=DEFAULT_BUNDLE) for peer in ours]

    def plan(self, texts: Sequence[str], context: int) -> Plan:
        """What one process is asked of a model that reads so many tokens."""
        variety = SMOKE_VARIETY if self.smoke else VARIETY
        rows = {
            str(length): [row(length, number) for number in range(variety)] for length in LENGTHS if length <= context
        }
        lengths = [min(length, context) for length in review_lengths(2 * variety * BATCH)]
        mixed = [row(length, number) for number, length in enumerate(lengths)]
        batches = {
            "reviews": [mixed[first : first + BATCH] for first in range(0, len(mixed), BATCH)],
            str(SAME_LENGTH): [
                [row(SAME_LENGTH, BATCH * turn + number) for number in range(BATCH)] for turn in range(variety)
            ],
        }
        measured = (0.0, 2) if self.smoke else (SECONDS, REPETITIONS)
        return Plan(self.threads, rows, batches, list(texts[:BATCH] if self.smoke else texts), *measured)
