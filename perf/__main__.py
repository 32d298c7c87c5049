"""Every measurement, one after the other: `python -m perf [--smoke | --keep]`.

With --keep what they found goes to perf/results, and docs/performance.md is written anew.
"""

from __future__ import annotations

import subprocess
import sys

from perf.bench import ROOT
from perf.kept import keep, lines

MEASUREMENTS = (
    "cold_start",
    "throughput",
    "generation",
    "engine",
    "overhead",
    "export_cost",
    "outliers",
    "search",
    "families",
    "zoo",
    "network",
    "neighbour",
)


def main() -> None:
    """Run each as a process of its own: two engines in one process disturb each other."""
    options = [option for option in sys.argv[1:] if option != "--keep"]
    kept = len(options) < len(sys.argv[1:])
    failed = []
    for name in MEASUREMENTS:
        command = [sys.executable, "-m", f"perf.{name}", *options]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8") as child:
            said = []
            for line in child.stdout or ():
                print(line, end="", flush=True)
                said.append(line)
        if child.returncode != 0:
            failed.append(name)
        elif kept:
            for report in lines("".join(said)):
                keep(report)
        print(flush=True)
    if kept:
        subprocess.run([sys.executable, "-m", "perf.performance"], cwd=ROOT, check=True)
    if failed:
        raise SystemExit(f"did not finish: {', '.join(failed)}")


if __name__ == "__main__":
    main()
