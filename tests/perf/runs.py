"""A comparison with peers in its smallest form, as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


def smoke_run(name: str, rounds: int, folder: Path) -> tuple[dict[str, Any], str]:
    """`python -m perf.{name} --smoke`, its page in `folder`: the JSON line at its end, and all that it printed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])}
    command = [sys.executable, "-m", f"perf.{name}", "--smoke", "--rounds", str(rounds), "--work", str(folder / "work")]
    done = subprocess.run(
        [*command, "--page", str(folder)], cwd=ROOT, env=environment, capture_output=True, encoding="utf-8",
        timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stdout
