"""What the till's own program notices: its frames beside an answering edgelm, an idle model's CPU time, its memory."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from edgelm_runtime.machine import resident_bytes
from perf.bench import Figure, Report, arguments, bundle_for, in_turns
from perf.reviews import reviews

FRAME_S = 1 / 60
WORK_S = 0.004  # of a frame, spent computing: what a POS program draws with
FRAMES, SMOKE_FRAMES = 600, 10
IDLE_S, SMOKE_IDLE_S = 10.0, 0.5
TEXTS, WARM, SMOKE_TEXTS = 10_000, 1_000, 40


def main() -> None:
    if "--answer-forever" in sys.argv:
        _answer_forever()
        return
    given = arguments("What edgelm costs the programs beside it.", rounds=5)
    report = Report(
        "neighbour",
        given.smoke,
        excludes="starting the processes; one round",
        facts={"frame": f"{1000 * FRAME_S:.1f} ms, {1000 * WORK_S:.0f} of them computing"},
    )
    folder = bundle_for("sentiment", given)
    frames = SMOKE_FRAMES if given.smoke else FRAMES
    kinds: tuple[tuple[str, ...] | None, ...] = (None, (), ("--low-priority",), ("--threads", "1"))
    alone, beside, low, one_core = in_turns(
        given.rounds,
        *(lambda options=options: _frames(folder, options, frames) for options in kinds),  # type: ignore[misc]
    )
    report.add(
        Figure("frame p99, alone", "ms", alone),
        Figure("frame p99, beside answers on all cores", "ms", beside),
        Figure("frame p99, beside answers at low priority", "ms", low, at_most=1000 * FRAME_S),
        Figure("frame p99, beside answers on one core", "ms", one_core, at_most=1000 * FRAME_S),
        *_alone(folder, given.smoke),
    )
    report.print()


def _frames(folder: Path | None, options: tuple[str, ...] | None, count: int) -> float:
    """The 99th percentile, in ms, of the time from a frame's beginning to its end, beside answers with `options`."""
    with _answering(folder, options):
        taken = []
        begin = time.perf_counter()
        for number in range(count):
            due = begin + number * FRAME_S
            time.sleep(max(0.0, due - time.perf_counter()))
            start = time.thread_time()
            while time.thread_time() - start < WORK_S:
                pass
            taken.append(1000 * (time.perf_counter() - due))
    return sorted(taken)[int(0.99 * (len(taken) - 1))]


@contextmanager
def _answering(folder: Path | None, options: tuple[str, ...] | None) -> Iterator[None]:
    """A process that answers without a pause, for as long as the context lasts; None is no process."""
    if options is None:
        yield
        return
    command = [sys.executable, "-m", "perf.neighbour", "--answer-forever", str(folder or ""), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        if child.stdout is None or not child.stdout.readline():
            raise SystemExit(f"{' '.join(command)} did not start")
        try:
            yield
        finally:
            child.kill()


def _answer_forever() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--answer-forever", metavar="FOLDER")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--low-priority", action="store_true")
    given = parser.parse_args()
    folder = Path(given.answer_forever) if given.answer_forever else None
    model = _model(folder, threads=given.threads, low_priority=given.low_priority)
    texts = reviews(50, seed=1)
    model(texts[0])
    print("ready", flush=True)
    while True:
        for text in texts:
            model(text)


def _model(folder: Path | None, **options: Any) -> Any:
    import edgelm

    return edgelm.load("sentiment", **options) if folder is None else edgelm.load(folder, task="sentiment", **options)


def _alone(folder: Path | None, smoke: bool) -> list[Figure]:
    """A loaded model that is not asked, and one that is asked thousands of texts."""
    model = _model(folder)
    texts = reviews(SMOKE_TEXTS if smoke else TEXTS, seed=2)
    model(texts[0])
    time.sleep(0.5)
    start, idle = time.process_time(), SMOKE_IDLE_S if smoke else IDLE_S
    time.sleep(idle)
    share = (time.process_time() - start) / idle
    random = Random(3)  # noqa: S311
    after_warm_up = 0
    for number, text in enumerate(texts):
        model(text * random.randint(1, 4))
        if number == min(WARM, len(texts) // 2):
            after_warm_up = resident_bytes() or 0
    grown = (resident_bytes() or 0) / after_warm_up if after_warm_up else 1.0
    return [
        Figure("idle model, CPU", "of a core", [share], at_most=0.005),
        Figure(f"resident after {len(texts):,} texts / after the first tenth", "", [grown], at_most=1.02),
    ]


if __name__ == "__main__":
    main()
