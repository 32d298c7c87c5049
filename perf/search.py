"""What `--precision auto` finds, beside all-int8: drop, speed in turns, size against float32, minutes."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from perf.bench import Figure, Report, arguments, in_turns, seconds_of

MAX_DROP, SMALLER, MINUTES = 0.3, 3.3, 10.0
TEXTS = 40
PATHS = {
    "--checkpoint": "the default sentiment's checkpoint",
    "--checkpoint-eval": "rows with text and label",
    "--minilm": "a classifier of MiniLM's shape",
    "--minilm-eval": "rows with text and label",
}


def main() -> None:
    given = arguments("The search for a scheme of every layer.", rounds=9, smoke_rounds=1, paths=PATHS)
    report = Report("search", given.smoke, excludes="loading; the first answers of each bundle")
    with tempfile.TemporaryDirectory() as scratch:
        if given.smoke:
            from perf.toy import train

            given.checkpoint, given.checkpoint_eval = train("sentiment", Path(scratch) / "toy")
        pairs = {"sentiment": (given.checkpoint, given.checkpoint_eval), "MiniLM": (given.minilm, given.minilm_eval)}
        asked = {name: pair for name, pair in pairs.items() if None not in pair}
        if not asked:
            report.skipped = f"give {', '.join(PATHS)}, or two of them: checkpoints are not in the repository"
        for name, (checkpoint, rows) in asked.items():
            _measure(report, name, (checkpoint, rows), Path(scratch) / name, given)
    report.print()


def _measure(report: Report, name: str, source: tuple[Path, Path], scratch: Path, given: argparse.Namespace) -> None:
    """Search and export once, then answer the same texts with both bundles in turns."""
    from edgelm_export.pipeline import ExportOptions, export
    from edgelm_export.search import Goal
    from edgelm_export.taskmetrics import evaluation_rows
    from edgelm_runtime.bundle import open_bundle
    from edgelm_runtime.loader import load

    checkpoint, rows_file = source
    goal = Goal(max_drop=MAX_DROP, minutes=MINUTES, best_effort=given.smoke)
    auto = ExportOptions(checkpoint, scratch / "auto", precision="auto", eval_file=rows_file, goal=goal)
    minutes = seconds_of(lambda: export(auto)) / 60
    export(ExportOptions(checkpoint, scratch / "int8"))
    manifest = open_bundle(scratch / "auto").manifest
    found = manifest.quality["search"]
    points = {point["name"]: point for point in found["points"]}
    chosen = points[found["chosen"]]
    report.facts[f"{name}, layers"] = {scheme: len(layers) for scheme, layers in found["layers"].items()}
    report.facts[f"{name}, drop"] = f"{chosen['drop']:+.2f} {chosen['interval']} on {found['rows']} rows"
    texts = [str(row["text"]) for row in evaluation_rows(rows_file, manifest, manifest.serves)[:TEXTS]]
    models = [load(scratch / "auto"), load(scratch / "int8")]
    searched, plain = in_turns(
        given.rounds, *(lambda model=model: seconds_of(lambda: [model(text) for text in texts]) for model in models)
    )
    ratios = [mine / other for mine, other in zip(searched, plain, strict=True)]
    graphs = [open_bundle(scratch / one).manifest.files["model.onnx"].sha256 for one in ("auto", "int8")]
    same = graphs[0] == graphs[1]  # then a ratio is noise, and no goal
    report.facts[f"{name}, graph"] = "that of all int8, byte for byte" if same else "another than all int8"
    report.add(
        Figure(f"{name}: drop", "points", [max(0.0, chosen["drop"])], at_most=MAX_DROP),
        Figure(f"{name}: time, auto / all int8", "", ratios, at_most=None if same else 1.0),
        Figure(f"{name}: float32 / size", "", [points["fp32"]["bytes"] / chosen["bytes"]], at_least=SMALLER),
        Figure(f"{name}: search and export", "min", [minutes], at_most=MINUTES),
    )


if __name__ == "__main__":
    main()
