"""How fast this machine multiplies integers: `python -m perf.encode.ceiling THREADS` prints multiply-adds a second."""

from __future__ import annotations

import subprocess
import sys

from edgelm_runtime.profile.rates import int8_rate
from perf.bench import ROOT

SECONDS, SMOKE_SECONDS = 2.0, 0.05


def int8_products(threads: int, smoke: bool = False) -> float:
    """Multiply-adds a second, measured in a process of its own: two pools of threads disturb each other."""
    command = [sys.executable, "-m", "perf.encode.ceiling", str(threads), *["--smoke"] * smoke]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    print(int8_rate(int(sys.argv[1]), SMOKE_SECONDS if "--smoke" in sys.argv else SECONDS))
