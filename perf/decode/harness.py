"""Conversions of decoders: a row for each engine and precision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from perf.beside import harness as beside
from perf.beside.peers import size_of
from perf.decode.peers import Peer
from perf.decode.protocol import Plan
from perf.decode.report import Row


class Bench(beside.Bench[Peer]):
    """What all benches do, and which engine knows which model."""

    def convert(
        self, checkpoint: Path, name: str, model_type: str, plan: Plan, precisions: tuple[str, ...] = ()
    ) -> Iterator[Row]:
        """A row for each engine and precision (default: all it has) that this kind of model can be converted for."""
        for peer in self.engines:
            if model_type not in peer.model_types:
                self.fail(f"{peer.title}: does not know {model_type} models ({name})")
                continue
            for precision, folder in self.converted(peer, checkpoint, name, precisions):
                yield Row(peer, precision, folder, size_of(folder), plan)
