"""The machine's work: environments, conversions and rounds, with a line for everything that did not go."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from perf.decode.peers import Failed, Peer, size_of
from perf.decode.protocol import Measured, Plan
from perf.decode.report import Row


@dataclass
class Bench:
    """Where things are, who takes part, and what went wrong so far."""

    work: Path
    smoke: bool
    threads: int
    engines: list[Peer]
    failures: list[str] = field(default_factory=list)

    def install(self) -> None:
        """Make every engine's environment; one that cannot be had leaves with its reason."""
        for peer in list(self.engines):
            self.say(f"environment of {peer.title}")
            try:
                if self.smoke:
                    peer.use_here()
                else:
                    peer.install(self.work / "environments")
            except Failed as failed:
                self.engines.remove(peer)
                self.fail(f"{peer.title}: {failed}")

    def convert(
        self, checkpoint: Path, name: str, model_type: str, plan: Plan, precisions: tuple[str, ...] = ()
    ) -> Iterator[Row]:
        """A row for each engine and precision (default: all it has) that this kind of model can be converted for."""
        for peer in self.engines:
            if model_type not in peer.model_types:
                self.fail(f"{peer.title}: does not know {model_type} models ({name})")
                continue
            for precision in precisions or peer.precisions:
                if precision not in peer.precisions:
                    continue
                folder = self.work / "models" / f"{name}-{peer.name}-{precision}"
                self.say(f"{name}: {peer.title}, {precision}")
                try:
                    peer.convert(checkpoint, folder, precision)
                except Failed as failed:
                    self.fail(f"{peer.title}, {name}, {precision}: {failed}")
                    continue
                yield Row(peer, precision, folder, size_of(folder), plan)

    def measure(self, row: Row) -> Measured | None:
        """One process; None, and a line among the failures, where it fails."""
        self.say(f"{row.folder.name}{', lookup' if row.plan.lookup else ''}")
        try:
            return row.peer.measure(row.folder, row.plan, self.work / "plan.json")
        except Failed as failed:
            self.fail(f"{row.folder.name}: {failed}")
            return None

    def rounds(self, rows: list[Row], rounds: int) -> list[Row]:
        """Measure in turns, every second round backwards; the rows that came through every round."""
        for number in range(rounds):
            for row in rows if number % 2 == 0 else rows[::-1]:
                if len(row.rounds) == number and (measured := self.measure(row)) is not None:
                    row.rounds.append(measured)
        return [row for row in rows if len(row.rounds) == rounds]

    def fail(self, text: str) -> None:
        """Note what did not go; it is said at once, and again at the end."""
        self.failures.append(text)
        self.say(f"failed: {text}")

    def say(self, text: str) -> None:
        print(f"... {text}", file=sys.stderr, flush=True)
