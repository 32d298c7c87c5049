"""Who is asked what: the engines of perf.encode and perf.decode, in the precisions that are compared here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perf.beside import harness as beside
from perf.beside.peers import Peer, size_of
from perf.decode import peers as decode
from perf.decode.protocol import Plan as DecodePlan
from perf.encode import peers as encode
from perf.encode.protocol import Plan as EncodePlan
from perf.fidelity.cases import Labelled, Prompted

ENCODERS = {
    "transformers": ("fp32",), "edgelm": ("int8",), "optimum_onnx": ("int8",), "openvino": ("int8", "int8-accuracy"),
    "ctranslate2": ("int8",),
}  # fmt: skip
DECODERS = {"edgelm": ("int8",), "llama_cpp": ("int8",)}
TOKENS, SMOKE_TOKENS = 48, 8
TIMED, SMOKE_TIMED = 200, 4
ROWS = "rows"


@dataclass
class Row(beside.Row[Peer[Any], Any, Any]):
    """One engine with one model: `scores` and `answers` of its rows once it has been asked, scores in percent."""

    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    answers: Sequence[object] = ()

    def ms(self) -> list[float]:
        """Median milliseconds of a row's logits, or of a token, one figure a round."""
        return [
            median(measured.token_ms if isinstance(self.plan, DecodePlan) else measured.row_ms[ROWS])
            for measured in self.rounds
        ]


def engines(chosen: str | None) -> list[Peer[Any]]:
    """The engines that take part, all or those that are named, with the precisions that are compared."""
    found: list[Peer[Any]] = []
    for peers, precisions in ((encode.peers(), ENCODERS), (decode.peers(), DECODERS)):
        for peer in peers:
            if peer.name in precisions and (not chosen or peer.name in chosen.split(",")):
                peer.precisions = precisions[peer.name]
                found.append(peer)
    return found


class Bench(beside.Bench[Peer[Any]]):
    """What all benches do, for engines of both kinds."""

    def rows_of(self, home: str, checkpoint: Path, plan: Any) -> Iterator[Row]:
        """A row for each engine of a kind, "encode" or "decode", and precision that the checkpoint is converted for."""
        for peer in self.engines:
            if peer.home == home:
                for precision, folder in self.converted(peer, checkpoint, checkpoint.name):
                    yield Row(peer, precision, folder, size_of(folder), plan)

    def classifier_plan(self, rows: Sequence[Labelled]) -> EncodePlan:
        """Logits of every row, one in a run; the time of the first ones."""
        timed = SMOKE_TIMED if self.smoke else TIMED
        batches = {ROWS: [[row.ids] for row in rows]}
        return EncodePlan(self.threads, {ROWS: [row.ids for row in rows[:timed]]}, batches, ["a text"], 0.0, timed)

    def generator_plan(self, rows: Sequence[Prompted]) -> DecodePlan:
        """A greedy answer to every prompt."""
        return DecodePlan(self.threads, {}, [row.ids for row in rows], self.tokens)

    @property
    def tokens(self) -> int:
        """Tokens of a generator's answer; what follows an end token is not looked at."""
        return SMOKE_TOKENS if self.smoke else TOKENS
