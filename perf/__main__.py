"""Every measurement, one after the other: `python -m perf [--smoke]`."""

from __future__ import annotations

import subprocess
import sys

from perf.bench import ROOT

MEASUREMENTS = (
    "cold_start",
    "throughput",
    "generation",
    "engine",
    "export_cost",
    "outliers",
    "search",
    "families",
    "network",
    "neighbour",
)


def main() -> None:
    """Run each as a process of its own: two engines in one process disturb each other."""
    failed = []
    for name in MEASUREMENTS:
        if subprocess.run([sys.executable, "-m", f"perf.{name}", *sys.argv[1:]], cwd=ROOT).returncode != 0:
            failed.append(name)
        print(flush=True)
    if failed:
        raise SystemExit(f"did not finish: {', '.join(failed)}")


if __name__ == "__main__":
    main()
