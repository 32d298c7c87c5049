"""System calls of the network family that the answers make, seen by strace: none is the goal."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from perf.bench import Figure, Report, arguments, bundle_for, bundle_options, edgelm_command

FORBIDDEN = ("connect", "sendto")
TEXTS = {"sentiment": "物流很快，质量也好", "summary": "It is soft. It fits true to size.", "description": "颜色#白色"}
_CALL = re.compile(r"^\d+\s+(\w+)\(", re.MULTILINE)


def main() -> None:
    given = arguments("strace -f -e trace=network of one answer of each task.", rounds=1, smoke_rounds=1)
    report = Report("network", given.smoke, excludes="nothing: every thread and child is followed")
    for task, text in TEXTS.items():
        command = edgelm_command("run", task, text, *bundle_options(bundle_for(task, given)))
        calls = traced(command)
        if isinstance(calls, str):
            report.skipped = calls
            break
        report.add(*(Figure(f"{task}: {name}", "calls", [calls[name]], at_most=0) for name in FORBIDDEN))
        report.add(Figure(f"{task}: all network calls", "calls", [calls.total()], at_most=0))
    report.print()


def traced(command: list[str]) -> Counter[str] | str:
    """Network calls of a command by name, or the reason why it cannot be traced here."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "trace"
        # edgelm turns onnxruntime's telemetry off by itself: what the environment says must not help it
        environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
        done = subprocess.run(
            [strace, "-f", "-e", "trace=network", "-o", str(log), *command], capture_output=True, text=True,
            encoding="utf-8", errors="replace", env=environment,
        )  # fmt: skip
        trace = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    if "+++ exited with" not in trace:
        return f"strace cannot trace here: {done.stderr.strip()}"
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return Counter(_CALL.findall(trace))


if __name__ == "__main__":
    main()
