"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_LOADING = (
    click.option("--device", default="auto", show_default=True, help="auto, cpu, or what edgelm devices lists."),
    click.option(
        "--use-variant", metavar="NAME", help="The bundle's graph to run.  [default: the first for the device]"
    ),
    click.option(
        "--threads", type=click.IntRange(min=1), help="Threads to use.  [default: the usable cores, at most 4]"
    ),
    click.option("--allow-fallback", is_flag=True, help="Let nodes that the device does not take run on the CPU."),
    click.option("--low-priority", is_flag=True, help="Give way to the other programs of this machine (Linux)."),
)


def loading(command: Command) -> Command:
    """How a bundle is loaded: where, which graph, with how many threads."""
    for option in reversed(_LOADING):
        command = option(command)
    return command
