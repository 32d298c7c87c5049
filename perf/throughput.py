"""Reviews a second of the default sentiment bundle: from a file as a process, and called in one process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from edgelm_runtime.machine import default_threads
from perf.bench import (
    Figure,
    Report,
    arguments,
    bundle_for,
    bundle_options,
    edgelm_command,
    in_turns,
    megabytes,
    run_process,
    seconds_of,
)
from perf.reviews import reviews

COUNT, SMOKE_COUNT = 4000, 40
GOAL = 500.0


def main() -> None:
    given = arguments("Reviews a second on all threads.", rounds=7)
    texts = reviews(SMOKE_COUNT if given.smoke else COUNT, seed=0)
    report = Report(
        "throughput",
        given.smoke,
        excludes="one round of each; the ceiling is the best round of the graph alone, on ids that are ready",
        facts={
            "reviews": len(texts),
            "median characters": median(map(len, texts)),
            "threads": default_threads(),
        },
    )
    folder = bundle_for("sentiment", given)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "reviews.txt"
        file.write_text("\n".join(texts) + "\n", encoding="utf-8")
        command = edgelm_command("run", "sentiment", "--input", str(file), "--json", *bundle_options(folder))
        (runs,) = in_turns(given.rounds, lambda: run_process(command))
    batches, graph = _in_process(folder, texts, given.rounds)
    ceiling = len(texts) / min(graph)
    report.add(
        Figure(
            "edgelm run --input FILE --json", "reviews/s", [len(texts) / run.seconds for run in runs],
            at_least=GOAL, ceiling=ceiling,
        ),
        Figure("model.batch(texts)", "reviews/s", [len(texts) / seconds for seconds in batches], ceiling=ceiling),
        Figure("model.logits(ids)", "reviews/s", [len(texts) / seconds for seconds in graph]),
        Figure("process, peak", "MB", [megabytes(run.peak_bytes) for run in runs]),
    )  # fmt: skip
    report.print()


def _in_process(folder: Path | None, texts: list[str], rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of all texts as text, and as token ids, in turns on one loaded model."""
    import edgelm

    model: Any = edgelm.load("sentiment") if folder is None else edgelm.load(folder, task="sentiment")
    below = model.for_input(texts[0]) if hasattr(model, "for_input") else model
    rows = [window for text in texts for window in below.windows(text)]
    batches, graph = in_turns(
        rounds, lambda: seconds_of(lambda: model.batch(texts)), lambda: seconds_of(lambda: below.logits(rows))
    )
    return batches, graph


if __name__ == "__main__":
    main()
