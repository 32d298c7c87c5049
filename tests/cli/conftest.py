"""The command, called in this process and as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest
from click.testing import CliRunner, Result

from edgelm.cli import cli

Invoke = Callable[..., Result]
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def invoke() -> Invoke:
    """``invoke("run", "sentiment", ..., stdin=b"...")`` in this process; stdout and stderr apart."""

    def call(*args: object, stdin: bytes | str | None = None) -> Result:
        return CliRunner().invoke(cli, [str(arg) for arg in args], input=stdin, prog_name="edgelm")

    return call


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment of a process that sees the packages as this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.fixture
def start(environment: dict[str, str]) -> Start:
    """``start("run", ...)`` as a process with pipes; the test waits for it."""

    def call(*args: object, **settings: str) -> subprocess.Popen[bytes]:
        command: Sequence[str | bytes] = [
            sys.executable, "-m", "edgelm", *(arg if isinstance(arg, bytes) else str(arg) for arg in args)
        ]  # fmt: skip
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env={**environment, **settings})

    return call
