"""Fresh processes of this Python: what they are asked, and what they answered."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from .. import errors
from .subject import NotMeasured, Subject

_CODE = (
    "import sys, time; began = time.perf_counter(); sys.path[:] = sys.argv[1:]; "
    "from edgelm_runtime.profile import child; child.main(began)"
)
_SHOWN = 200


@dataclass(frozen=True)
class Fresh:
    """A process that has ended: its reply, and when it was started and had ended.

    Both are seconds of `perf_counter`, which is the same clock in every process.
    """

    reply: Mapping[str, Any]
    start: float
    end: float


def ask(subject: Subject, values: Sequence[Any], seconds: float | None) -> Fresh:
    """Let a fresh process load the subject and answer `values` for so many seconds, or the first one once (None).

    Raises what loading and answering raise there, and NotMeasured where no process can be started or it dies.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise NotMeasured("this program is no Python that could be started again")
    request = {
        "path": str(subject.bundle.path.absolute()),
        "task": subject.task,
        "options": asdict(subject.options),
        "values": list(values),
        "seconds": seconds,
    }
    start = perf_counter()
    try:
        done = subprocess.run(  # noqa: S603 - this very Python, and our own module
            [sys.executable, "-c", _CODE, *sys.path], input=json.dumps(request).encode("ascii"), capture_output=True
        )
    except OSError as error:
        raise NotMeasured(f"no process could be started: {error}") from error
    return Fresh(_reply(done), start, perf_counter())


def _reply(done: subprocess.CompletedProcess[bytes]) -> Mapping[str, Any]:
    """The last line of what a process said: a device's library may speak before. Raises the error that it says."""
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise NotMeasured(f"a process of its own ended with {done.returncode}: {(said or ['no word'])[-1][:_SHOWN]}")
    reply: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "error" in reply:
        raise getattr(errors, reply["error"])(reply["message"])
    return reply
