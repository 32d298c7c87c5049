"""One file per task. The class in it is named after the file: tasks/sentiment.py has `Sentiment`.

Every task class is made as `Class(bundle, options)` with an opened `Bundle` and `LoadOptions`, and is called with one
input: `model(text) -> result`. To add a task, add the file and its name to `TASKS`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

TASKS = ("sentiment", "classify", "tag", "embed", "summary", "description")
ENCODERS = TASKS[:4]  # read a text in one run; the others write


def task_class(task: str) -> Any:
    """The class that serves `task`, imported at first use. Raises KeyError for a name outside `TASKS`."""
    if task not in TASKS:
        raise KeyError(task)
    return getattr(import_module(f"{__name__}.{task}"), task.capitalize())
