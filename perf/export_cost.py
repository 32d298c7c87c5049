"""What it costs to export a checkpoint of BERT-base's shape: time, and peak memory against the checkpoint's bytes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from perf.bench import ROOT, Figure, Report, arguments, edgelm_command, in_turns, megabytes, run_process

GOAL_SECONDS = 60.0
GOAL_CHECKPOINTS = 3.0
IMPORTS = "import torch, transformers, onnx_ir, onnxruntime"


def main() -> None:
    given = arguments("Time and peak memory of `edgelm export`.", rounds=3, smoke_rounds=1)
    report = Report(
        "export_cost", given.smoke, excludes="making the checkpoint, and one export that fills the file cache"
    )
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint, out = Path(scratch) / "checkpoint", Path(scratch) / "bundle"
        size = _make(checkpoint, smoke=given.smoke)
        command = edgelm_command("export", str(checkpoint), "--out", str(out), "--force")
        imports = [sys.executable, "-c", IMPORTS]
        if given.smoke:
            exports, bare = [run_process(command)], [run_process(imports)]
        else:
            exports, bare = in_turns(given.rounds, lambda: run_process(command), lambda: run_process(imports))
        graph = json.loads((out / "edgelm.json").read_text(encoding="utf-8"))["files"]["model.onnx"]["size"]
    report.facts = {
        "checkpoint": f"{size:,} bytes in float32",
        "graph": f"{graph:,} bytes, {graph / size:.3f} of it",
        "imports": IMPORTS,
    }
    peaks = [run.peak_bytes for run in exports]
    report.add(
        Figure("export", "s", [run.seconds for run in exports], at_most=GOAL_SECONDS),
        Figure("export, peak", "MB", [megabytes(peak) for peak in peaks]),
        Figure("export, peak / checkpoint", "ratio", [peak / size for peak in peaks], at_most=GOAL_CHECKPOINTS),
        Figure("imports alone", "s", [run.seconds for run in bare]),
        Figure("imports alone, peak", "MB", [megabytes(run.peak_bytes) for run in bare]),
    )
    report.print()


def _make(folder: Path, *, smoke: bool) -> int:
    """Write the checkpoint in a process of its own, so that its memory is not counted here; bytes of its tensors."""
    command = [sys.executable, "-m", "perf.checkpoint", str(folder), *["--smoke"] * smoke]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)


if __name__ == "__main__":
    main()
