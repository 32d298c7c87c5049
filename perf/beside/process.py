"""What the process of every engine does: convert a checkpoint, or measure a model and print one JSON line.

Runs in the peers' environments, so it imports the standard library only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

Convert = Callable[[Path, Path, str], None]


def main(convert: Convert, measure: Callable[[Path, dict[str, Any]], Any]) -> None:
    """`convert CHECKPOINT FOLDER PRECISION`, or `measure FOLDER PLAN`, whose last line of stdout is the result.

    `measure` takes the model's folder and the plan's JSON, and gives a dataclass.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=("convert", "measure"))
    parser.add_argument("paths", type=Path, nargs=2)
    parser.add_argument("precision", nargs="?", default="")
    given = parser.parse_args()
    first, second = given.paths
    if given.work == "convert":
        try:
            convert(first, second, given.precision)
        except subprocess.CalledProcessError as error:
            raise SystemExit(error.returncode) from None  # the tool has said why
        return
    measured = measure(first, json.loads(second.read_text("utf-8")))
    print("\n" + json.dumps(asdict(measured)), flush=True)


def memory(name: str) -> int:
    """A line of this process's status, in bytes; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)
