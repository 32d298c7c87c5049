"""`edgelm verify --isolated`: a bundle of unknown origin is verified in a process that may die of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import child, errors
from .errors import BundleRejected, EdgeLMError, InputError
from .placement import DEFAULTS, LoadOptions
from .verify import VerifyReport, verify_bundle

SECONDS = 600  # of processor time, and twice as many of a clock


def verify_isolated(path: str | Path, options: LoadOptions = DEFAULTS) -> VerifyReport:
    """Like `verify_bundle`, in a process of its own with bounded time; where it dies the bundle is refused.

    Raises what `verify_bundle` raises, and InputError where this program is no Python that could be started again.
    """
    if not child.can_start():
        raise InputError(f"this program ({sys.executable or 'embedded'}) is no Python that could be started again")
    request = json.dumps({"path": os.path.abspath(path), "options": asdict(options)}).encode("ascii")
    try:
        done = child.run_python("isolated:main", request, 2 * SECONDS)
    except subprocess.TimeoutExpired as error:
        raise _refused(path, f"had to be ended after {2 * SECONDS} s") from error
    except OSError as error:
        raise InputError(f"no process could be started: {error}") from error
    if done.returncode or not done.stdout:
        raise _refused(path, f"ended with {child.how_ended(done.returncode)}")
    reply: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "error" in reply:
        raise _error(reply)
    return VerifyReport(**reply)


def main() -> None:
    """What the process does: a report, or the error that was raised, as one line of JSON."""
    child.limit(SECONDS)
    request = json.load(sys.stdin)
    try:
        reply = asdict(verify_bundle(request["path"], LoadOptions(**request["options"])))
    except EdgeLMError as error:
        parts = {name: getattr(error, name, "") for name in ("what", "expected", "found")}
        reply = {"error": type(error).__name__, "message": str(error), **parts}
    sys.stdout.buffer.write(json.dumps(reply).encode("ascii") + b"\n")


def _error(reply: dict[str, Any]) -> EdgeLMError:
    kind = getattr(errors, reply["error"], EdgeLMError)
    if kind is BundleRejected:
        return BundleRejected(reply["message"], what=reply["what"], expected=reply["expected"], found=reply["found"])
    made: EdgeLMError = kind(reply["message"])
    return made


def _refused(path: str | Path, how: str) -> BundleRejected:
    return BundleRejected(
        f"{path} is refused: the process that verified it {how}; do not use the bundle, and take it from where it was "
        "made",
        what=str(path),
        expected="a bundle that is verified or refused",
        found=how,
    )
