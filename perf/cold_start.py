"""One answer as a whole process, against a process that only imports what the answer needs."""

from __future__ import annotations

import sys

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
)

TEXT = "物流很快，包装完好，穿着也很舒服，会再来买！"
IMPORTS = "import numpy, onnxruntime, tokenizers, click"
GOAL_RATIO = 2.5
GOAL_MEGABYTES = 200.0


def main() -> None:
    given = arguments("Time and peak memory of `edgelm run sentiment TEXT`, in turns with the bare imports.", rounds=15)
    answer = edgelm_command("run", "sentiment", TEXT, *bundle_options(bundle_for("sentiment", given)))
    imports = [sys.executable, "-c", IMPORTS]
    report = Report(
        "cold_start",
        given.smoke,
        excludes="one round of each, which fills the file cache",
        facts={"answer": " ".join(["edgelm", *answer[1:]]), "imports": f'python -c "{IMPORTS}"'},
    )
    answers, bare = in_turns(given.rounds, lambda: run_process(answer), lambda: run_process(imports))
    floor = sorted(run.seconds for run in bare)[len(bare) // 2]
    ratios = [run.seconds / floor for run in answers]
    report.add(
        Figure("answer", "ms", [1000 * run.seconds for run in answers]),
        Figure("imports", "ms", [1000 * run.seconds for run in bare]),
        Figure("answer / median of imports", "ratio", ratios, at_most=GOAL_RATIO),
        Figure("answer, peak", "MB", [megabytes(run.peak_bytes) for run in answers], at_most=GOAL_MEGABYTES),
        Figure("imports, peak", "MB", [megabytes(run.peak_bytes) for run in bare]),
    )
    report.print()


if __name__ == "__main__":
    main()
