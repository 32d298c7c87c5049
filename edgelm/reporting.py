"""What `edgelm run` says beside its answers, all of it on stderr: notes, refused lines, timings."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

import click

from edgelm.inputs import Problem
from edgelm.terminal import note, say_line
from edgelm_runtime.errors import InputError

SHOWN_PROBLEMS = 20


class Problems:
    """Counts the inputs of one source, and names those that are refused, the first of them one by one."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.answered = 0
        self.refused = 0
        self.blank = 0

    def add(self, *problems: Problem) -> None:
        """Name inputs that could not be answered."""
        for problem in problems:
            self.refused += 1
            if self.refused <= SHOWN_PROBLEMS:
                say_line(f"edgelm: {self._source}, line {problem.line}: {problem.message}")

    def finish(self) -> None:
        """Say how it went.

        Raises:
            InputError: an input was refused, or there was none.
        """
        if self.refused > SHOWN_PROBLEMS:
            say_line(f"edgelm: and {self.refused - SHOWN_PROBLEMS} more")
        if self.blank:
            note([f"{self._source}: blank lines skipped: {self.blank}"])
        if self.refused:
            total = self.answered + self.refused
            raise InputError(f"{self._source}: {self.refused} of {total} inputs refused, {self.answered} answered")
        if not self.answered:
            raise InputError(f"{self._source}: no input; one a line is accepted")


class Timer:
    """Shows where the time went, if that was asked for. Times are milliseconds of wall clock."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._start = perf_counter()

    def _elapsed(self) -> float:
        return (perf_counter() - self._start) * 1000

    def one(self, timings: Mapping[str, float]) -> None:
        """After one answer: the loading before it, and its stages. The next one is counted from here."""
        if self._shown:
            stages = {"load": max(0.0, self._elapsed() - timings.get("total", 0.0)), **timings}
            click.echo(", ".join(f"{_words(stage)} {time:.1f} ms" for stage, time in stages.items()), err=True)
        self._start = perf_counter()

    def many(self, answered: int) -> None:
        """After many answers: how many a second, loading included."""
        if self._shown and answered:
            seconds = self._elapsed() / 1000
            click.echo(f"{answered} answers in {seconds:.2f} s: {answered / seconds:.1f} a second", err=True)


def _words(stage: str) -> str:
    return stage.replace("_", " ")
