"""The machine's work: environments, conversions and rounds, with a line for everything that did not go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from perf.beside.peers import Failed, Peer

P = TypeVar("P")
M = TypeVar("M")
E = TypeVar("E", bound=Peer[Any])
R = TypeVar("R", bound="Row[Any, Any, Any]")


@dataclass
class Row(Generic[E, P, M]):
    """One engine with one model, what is asked of it, and what its rounds measured."""

    peer: E
    precision: str
    folder: Path
    size: int
    plan: P
    rounds: list[M] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What is said while it is measured."""
        return self.folder.name


@dataclass
class Bench(Generic[E]):
    """Where things are, who takes part, and what went wrong so far."""

    work: Path
    smoke: bool
    threads: int
    engines: list[E]
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

    def converted(
        self, peer: E, checkpoint: Path, name: str, precisions: tuple[str, ...] = ()
    ) -> Iterator[tuple[str, Path]]:
        """Precision and folder of each model that an engine could be given (default: all precisions that it has)."""
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
            yield precision, folder

    def measure(self, row: Row[E, P, M]) -> M | None:
        """One process; None, and a line among the failures, where it fails."""
        self.say(row.title)
        try:
            measured: M = row.peer.measure(row.folder, row.plan, self.work / "plan.json")
        except Failed as failed:
            self.fail(f"{row.folder.name}: {failed}")
            return None
        return measured

    def rounds(self, rows: list[R], rounds: int, first: Callable[[], object] | None = None) -> list[R]:
        """Measure in turns, every second round backwards; the rows that came through every round.

        `first` is called at the beginning of each round.
        """
        for number in range(rounds):
            if first is not None:
                first()
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
