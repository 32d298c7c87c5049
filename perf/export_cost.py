"""What it costs to export a checkpoint: time, and peak memory.

`--shape base` is BERT-base in float32, `--shape 1.5b` a Qwen2 of 1.5 billion parameters in bfloat16 (7 GB of disk).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from perf.bench import ROOT, Figure, Process, Report, arguments, edgelm_command, in_turns, megabytes, run_process

IMPORTS = "import torch, transformers, onnx_ir, onnxruntime"


@dataclass(frozen=True)
class Shape:
    """What makes the checkpoint, and the goals: seconds, and peak memory in bytes or in checkpoints."""

    script: str
    seconds: float | None = None
    checkpoints: float | None = None
    peak_bytes: float | None = None


SHAPES = {
    "base": Shape("perf.checkpoint", seconds=60.0, checkpoints=3.0),
    "1.5b": Shape("perf.generator", peak_bytes=6e9),
}


def main() -> None:
    given = arguments("Time and peak memory of `edgelm export`.", rounds=3, smoke_rounds=1, shapes=tuple(SHAPES))
    shape = SHAPES[given.shape]
    report = Report(
        "export_cost", given.smoke, excludes="making the checkpoint, and one export that fills the file cache"
    )
    if given.work is not None:
        given.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.work) as scratch:
        checkpoint, out = Path(scratch) / "checkpoint", Path(scratch) / "bundle"
        size = _make(checkpoint, shape, smoke=given.smoke)
        exports, bare = _measured(checkpoint, out, given)
        files = json.loads((out / "edgelm.json").read_text(encoding="utf-8"))["files"]
    graph = sum(files[name]["size"] for name in ("model.onnx", "model.safetensors") if name in files)
    report.facts = {
        "checkpoint": f"{size:,} bytes in float32",
        "graph": f"{graph:,} bytes, {graph / size:.3f} of it",
        "imports": IMPORTS,
    }
    peaks = [run.peak_bytes for run in exports]
    most = None if shape.peak_bytes is None else megabytes(shape.peak_bytes)
    report.add(
        Figure("export", "s", [run.seconds for run in exports], at_most=shape.seconds),
        Figure("export, peak", "MB", [megabytes(peak) for peak in peaks], at_most=most),
        Figure("export, peak / checkpoint", "ratio", [peak / size for peak in peaks], at_most=shape.checkpoints),
        Figure("imports alone", "s", [run.seconds for run in bare]),
        Figure("imports alone, peak", "MB", [megabytes(run.peak_bytes) for run in bare]),
    )
    report.print()


def _measured(checkpoint: Path, out: Path, given: argparse.Namespace) -> tuple[list[Process], list[Process]]:
    """The exports, and as many times the imports alone; of one round nothing comes before."""
    command = edgelm_command("export", str(checkpoint), "--out", str(out), "--force")
    imports = [sys.executable, "-c", IMPORTS]
    if given.rounds == 1:
        return [run_process(command)], [run_process(imports)]
    exports, bare = in_turns(given.rounds, lambda: run_process(command), lambda: run_process(imports))
    return exports, bare


def _make(folder: Path, shape: Shape, *, smoke: bool) -> int:
    """Write the checkpoint in a process of its own, so that its memory is not counted here; its bytes in float32."""
    command = [sys.executable, "-m", shape.script, str(folder), *["--smoke"] * smoke]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)


if __name__ == "__main__":
    main()
