"""A time line in the trace event format of Chrome, which https://ui.perfetto.dev opens.

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import json
from typing import Any, TextIO

from edgelm_runtime.profile.report import Subject
from edgelm_runtime.profile.timeline import Slice, Timeline

_PROCESS, _THREAD = 1, 1


def write(timeline: Timeline, subject: Subject, stream: TextIO) -> None:
    """Write the time line, an event a line; times are microseconds."""
    head = [
        _named("process_name", f"edgelm: {subject.bundle} ({subject.task})"),
        _named("thread_name", f"{subject.variant} on {subject.device}, {subject.threads} threads"),
    ]
    about = {
        "bundle": subject.bundle,
        "sha256": subject.sha256,
        "edgelm": subject.edgelm,
        "onnxruntime": subject.onnxruntime,
        "answers": timeline.answers,
        "operators left out": timeline.left_out,
    }
    stream.write(
        f'{{"displayTimeUnit": "ms", "otherData": {json.dumps(about, ensure_ascii=False)},\n"traceEvents": [\n'
    )
    events = [*head, *map(_event, timeline.slices)]
    stream.write(",\n".join(json.dumps(event, ensure_ascii=False) for event in events))
    stream.write("\n]}\n")


def summary(timeline: Timeline) -> str:
    """What was written, in words."""
    operators = sum(one.kind == "operator" for one in timeline.slices)
    answers = "1 answer" if timeline.answers == 1 else f"{timeline.answers} answers"
    rest = f", {timeline.left_out:,} more left out" if timeline.left_out else ""
    return f"{answers}, {operators:,} runs of operators{rest}; https://ui.perfetto.dev opens it"


def _named(kind: str, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": _PROCESS, "tid": _THREAD, "ts": 0, "args": {"name": name}}


def _event(one: Slice) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": one.name,
        "cat": one.kind,
        "ts": one.start / 1000,
        "dur": (one.end - one.start) / 1000,
        "pid": _PROCESS,
        "tid": _THREAD,
        "args": dict(one.args),
    }
