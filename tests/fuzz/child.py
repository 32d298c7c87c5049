"""A process that tries cases one after the other and says how each ended; it may die of one."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from random import Random
from time import process_time

from edgelm_runtime.errors import EdgeLMError
from tests.fuzz.kinds import KINDS


def main(kind: str, seed: int, first: int, last: int) -> None:
    """Cases `first` to `last`, less one: a line of JSON before and after each."""
    said = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)  # panics are written there, with pages of calls
    with tempfile.TemporaryDirectory(prefix="edgelm-fuzz-") as folder:
        tried = KINDS[kind](Path(folder))
        for number in range(first, last):
            print(json.dumps({"begin": number}), file=said, flush=True)
            use = tried.made(Random(f"{kind} {seed} {number}"))
            before, began = resident_peak(reset=True), process_time()
            outcome, where = "answered", ""
            try:
                use()
            except EdgeLMError as error:
                outcome, where = "refused", type(error).__name__
            except BaseException as error:
                outcome, where = "raw", _place(error)
            took, grown = process_time() - began, resident_peak() - before
            print(json.dumps({"end": outcome, "where": where, "s": took, "mb": grown / 1e6}), file=said, flush=True)
    os._exit(0)  # what onnxruntime frees at the end of such a process is no case


def _place(error: BaseException) -> str:
    calls = [call for call in traceback.extract_tb(error.__traceback__) if "edgelm" in call.filename]
    place = f"{Path(calls[-1].filename).name}:{calls[-1].lineno}" if calls else "?"
    return f"{type(error).__name__} at {place}: {' '.join(str(error).split())[:160]}"


def resident_peak(*, reset: bool = False) -> int:
    """The most bytes that were resident; with `reset` those of now, and counted anew (Linux)."""
    if reset:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return 0
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    field = "VmRSS" if reset else "VmHWM"
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(field))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
